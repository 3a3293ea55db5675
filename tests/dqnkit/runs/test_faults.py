"""Failures while a run trains: what they cost, and what the messages name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dqnkit.config.sections import Config
from dqnkit.errors import EnvironmentFailedError, TrainingDivergedError
from dqnkit.events import RunStatus
from dqnkit.runs.trainer import resume, train
from tests.faulty import BROKEN
from tests.processes import last_state, repeated, runs
from tests.runs import make_store

Small = Callable[..., Config]
FAULTY = (
    "env.id=tests.faulty:Faulty-v0",
    "env.step_timeout=1.0",
    "training.checkpoint_interval=50",
    "training.num_iterations=300",
    "evaluation.eval_interval=100",
    "evaluation.num_eval_episodes=1",
    "evaluation.final_episodes=2",
)


@pytest.fixture(autouse=True)
def _store(_brief_end: None) -> None:
    make_store()


def _faulty(small: Small, vectorization: str, fault: str, call: str) -> Config:
    kwargs = f"env.kwargs={{fault: {fault}, call: {call}}}"
    return small(*FAULTY, f"env.vectorization={vectorization}", kwargs)


FAULTS = [
    ("sync", "raise", "step", "of an episode: RuntimeError: out of ice"),
    ("sync", "raise", "reset", "failed in reset: RuntimeError: out of ice"),
    ("sync", "hang", "step", "hangs: a step or reset took longer than env.step_timeout=1 "),
    ("sync", "busy", "step", "hangs: a step or reset took longer than env.step_timeout=1 "),
    ("sync", "hang", "reset", "hangs: a step or reset took longer than env.step_timeout=1 "),
    ("sync", "nan reward", "step", "gave a reward that is not finite"),
    ("sync", "infinite reward", "step", "gave a reward that is not finite"),
    ("sync", "nan observation", "step", "gave an observation that is not finite"),
    ("sync", "infinite observation", "reset", "gave an observation that is not finite"),
    ("async", "raise", "reset", "failed in reset: RuntimeError: out of ice"),
    ("async", "hang", "step", "hangs: a step or reset took longer than env.step_timeout=1 "),
    ("async", "busy", "reset", "hangs: a step or reset took longer than env.step_timeout=1 "),
    ("async", "die", "step", "'tests.faulty:Faulty-v0' has died in step"),
    ("async", "nan reward", "step", "gave a reward that is not finite"),
]


@pytest.mark.parametrize(("vectorization", "fault", "call", "message"), FAULTS)
def test_a_broken_environment_is_named(
    small: Small,
    vectorization: str,
    fault: str,
    call: str,
    message: str,
    tally: Callable[..., None],
) -> None:
    config = _faulty(small, vectorization, fault, call)
    BROKEN.touch()
    with pytest.raises(EnvironmentFailedError, match=message) as caught:
        train(config)
    tally("faults of environments")
    where, kept = caught.value.__notes__
    assert where.startswith("this was after iteration 1")
    assert kept.startswith("the checkpoint of iteration 100 is kept; `")
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert message in run.data.tags["mlflow.note.content"]
    assert where in run.data.tags["mlflow.note.content"]


FEW = {("sync", "raise", "reset"), ("sync", "hang", "step"), ("async", "die", "step")}
"""Faults after which the fast suite resumes."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[] if fault in FEW else [pytest.mark.slow])
        for fault in (row[:3] for row in FAULTS)
    ],
    ids="-".join,
)
def test_a_run_resumes_once_its_environment_is_fixed(
    small: Small, fault: tuple[str, str, str]
) -> None:
    BROKEN.touch()
    with pytest.raises(EnvironmentFailedError):
        train(_faulty(small, *fault))
    BROKEN.unlink()
    result = resume("latest")
    assert (result.status, result.iterations) == (RunStatus.FINISHED, 300)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    steps = [step for step, _ in repeated(run)["train/loss"]]
    assert steps == sorted(set(steps))
    assert len(steps) == 30


def test_infinite_weights_are_never_a_checkpoint(small: Small) -> None:
    config = small(
        "optimizer.learning_rate=1e30",
        "training.log_interval=1000",
        "training.checkpoint_interval=1",
        "training.num_iterations=1000",
    )
    with pytest.raises(TrainingDivergedError, match=r"before iteration \d+; lower optimizer"):
        train(config)
    (run,) = runs()
    assert run.info.status == "FAILED"
    agent = {k: v for k, v in last_state(run).items() if k.startswith("agent/")}
    assert all(np.isfinite(value).all() for value in agent.values())


def test_a_full_disk_costs_only_the_checkpoint(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    config = small("training.checkpoint_interval=20")
    with monkeypatch.context() as patch:
        patch.setattr("dqnkit.runs.checkpoints.CheckpointFolder.add", full)
        result = train(config)
    assert result.status is RunStatus.FINISHED
    (problem,) = result.problems
    assert problem.startswith("the checkpoint of iteration 60 cannot be written: No space left")
