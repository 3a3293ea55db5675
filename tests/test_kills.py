"""Runs that are killed at random moments, resumed, and compared with uninterrupted ones."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Training, assert_same_state, last_state, repeated, runs

pytestmark = pytest.mark.slow

KILLS = 7
"""Number of kills of each configuration."""
CONFIGURATIONS = {
    "dqn": """
        network: {fc_layer_params: [32]}
        training: {num_iterations: 120_000, log_interval: 700, checkpoint_interval: 3_000}
        evaluation: {eval_interval: 10_000}
        replay: {replay_buffer_max_length: 20_000}
    """,
    "several-environments": """
        env: {id: Acrobot-v1, num_envs: 8}
        network: {fc_layer_params: [32]}
        optimizer: {schedule: linear}
        exploration: {schedule: linear, initial_epsilon: 1.0}
        training: {num_iterations: 25_000, log_interval: 300, checkpoint_interval: 700}
        evaluation: {eval_interval: 5_000}
    """,
    "rainbow": """
        agent: {kind: double_c51, n_step: 3, v_min: 0, v_max: 100}
        network: {fc_layer_params: [32], dueling: true}
        replay: {kind: prioritized, replay_buffer_max_length: 20_000}
        training: {num_iterations: 25_000, log_interval: 300, checkpoint_interval: 700}
        evaluation: {eval_interval: 5_000}
    """,
}


def _enter(folder: str, monkeypatch: pytest.MonkeyPatch, configuration: str) -> list[str]:
    """Change into a new folder with a configuration; return the command that trains it."""
    path = Path(folder).resolve()
    path.mkdir()
    monkeypatch.chdir(path)
    text = "\n".join(line.removeprefix("        ") for line in configuration.splitlines())
    Path("experiment.yaml").write_text(text, encoding="utf-8")
    return ["train", "experiment.yaml"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_killed_run_is_resumed_bit_for_bit(
    name: str, monkeypatch: pytest.MonkeyPatch, tally: Callable[[str], None], tmp_path: Path
) -> None:
    """SIGKILL comes anywhere between Python's first line and the last chunk."""
    command = _enter("reference", monkeypatch, CONFIGURATIONS[name])
    reference = Training(*command)
    assert reference.ended() == 0, reference.output
    (whole,) = runs()
    wanted, end = repeated(whole), last_state(whole)

    monkeypatch.chdir(tmp_path)
    command = _enter("killed", monkeypatch, CONFIGURATIONS[name])
    moments = random.Random(name)
    kills, current = 0, command
    while True:
        training = Training(*current)
        if kills < KILLS:
            # Every third falls into imports and compilation, the others into training.
            early = kills % 3 == 2
            if not early:
                training.wait_for("compiled in")
            if not training.has_ended(moments.uniform(0.0, 6.0 if early else 1.5)):
                training.end(signal.SIGKILL)
                tally("kills")
                kills += 1
        if training.ended() == 0 and kills == KILLS:
            break
        current = ["train", "--resume", "latest"] if _is_resumable(training) else command
    for run in runs():
        assert run.info.status == "FINISHED", training.output
        assert repeated(run) == wanted
        assert_same_state(last_state(run), end)
    assert not list(Path("mlruns/live").iterdir())


def _is_resumable(training: Training) -> bool:
    """Return whether a killed run is recorded; after a finished one, a new one is trained."""
    assert training.process.returncode in {0, -signal.SIGKILL}, training.output
    if training.process.returncode == 0 or not Path("mlruns/mlflow.db").exists():
        return False
    return any(run.info.status in {"RUNNING", "KILLED"} for run in runs())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_names_the_command_that_resumes_it(
    number: int, monkeypatch: pytest.MonkeyPatch, tally: Callable[[str], None], tmp_path: Path
) -> None:
    # Long enough that a fast machine has not finished before the last signal.
    configuration = CONFIGURATIONS["dqn"].replace("120_000", "400_000")
    reference = Training(*_enter("reference", monkeypatch, configuration))
    assert reference.ended() == 0, reference.output
    (whole,) = runs()
    wanted, end = repeated(whole), last_state(whole)

    monkeypatch.chdir(tmp_path)
    training = Training(*_enter("interrupted", monkeypatch, configuration))
    for moment in (0.2, 0.6, 0.4):
        training.wait_for("compiled in")
        assert not training.has_ended(moment)
        assert training.end(number) == 130, training.output
        tally("interruptions")
        (run,) = runs()
        assert run.info.status == "KILLED"
        words = training.output.rpartition("`")[0].rpartition("`")[2].split()
        assert words[-3:] == ["train", "--resume", run.info.run_id[:8]]
        training = Training(*words[-3:])
    assert training.ended() == 0, training.output
    (run,) = runs()
    assert_same_state(last_state(run), end)
    same = repeated(run)
    for key in wanted:
        if not key.startswith(("final/", "late/")):  # logged when it was interrupted, too
            assert same[key] == wanted[key], key
        assert same[key][-1] == wanted[key][-1], key
