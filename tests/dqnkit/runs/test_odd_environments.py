"""Runs in environments that are a little odd, from the first step to the saved policy."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dqnkit
from dqnkit.config.sections import Config
from dqnkit.envs import watchdog
from dqnkit.errors import EnvironmentFailedError, InterruptedRun, TrainingDivergedError
from dqnkit.events import (
    Collecting,
    Evaluated,
    Evaluating,
    Event,
    Progress,
    RunStatus,
    Warned,
)
from dqnkit.processes.interrupts import Interrupts
from dqnkit.runs.trainer import resume, train
from tests.events import Events, once
from tests.processes import runs
from tests.runs import make_store

Small = Callable[..., Config]
ODD = "env.id=tests.odd:Odd-v0"
SLOW = ("env.id=tests.odd:Slow-v0", "evaluation.num_eval_episodes=2")
PROMPT = 0.5
"""Seconds within which an interruption is obeyed, on a busy machine."""


@pytest.fixture(autouse=True)
def _store() -> None:
    make_store()


# -- Several arrays


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_noisy_image_beside_a_number_does_not_hide_it(small: Small, dtype: str) -> None:
    config = small(
        "env.id=tests.odd:Camera-v0",
        f"env.kwargs={{dtype: {dtype}}}",
        "agent.gamma=0.1",
        "network.fc_layer_params=[50]",
        "optimizer.learning_rate=3e-3",
        "training.num_iterations=1200",
        "training.batch_size=32",
        "evaluation.eval_interval=400",
        "evaluation.final_episodes=20",
    )
    result = train(config)
    assert result.final is not None
    assert result.final.summary.mean >= 9.0
    policy = dqnkit.load_policy("latest")
    rng = np.random.default_rng(0)
    observations = {
        "image": rng.integers(0, 256, (6, 12, 10)).astype(dtype),
        "gear": rng.integers(-1, 2, 6),
        "speed": np.float32([[-1], [1], [-1], [1], [1], [-1]]),
    }
    np.testing.assert_array_equal(policy.predict(observations), [0, 1, 0, 1, 1, 0])
    flat = observations | {"image": observations["image"].reshape(6, -1)}
    np.testing.assert_array_equal(policy.predict(flat), [0, 1, 0, 1, 1, 0])
    assert dqnkit.evaluate("latest", 20).trained.summary.mean >= 9.0
    video = dqnkit.render("latest", output="camera.gif")
    assert video.returns["trained"][0] >= 9.0


# -- Numbers


@pytest.mark.usefixtures("_brief_end")
def test_a_divergence_by_huge_observations_names_them(small: Small) -> None:
    config = small("env.id=tests.odd:Far-v0", "env.kwargs={offset: 1e30, change: 1e28}")
    huge = r"observations of about 1(\.\d+)?e\+30 in 'far'"
    with pytest.raises(TrainingDivergedError, match=huge):
        train(config)


# -- Closing


@pytest.mark.parametrize("vectorization", ["sync", "async", "vector_entry_point"])
@pytest.mark.usefixtures("_brief_end")
def test_a_close_that_raises_costs_a_run_nothing(small: Small, vectorization: str) -> None:
    events = Events()
    config = small(ODD, "env.kwargs={oddity: close raises}", f"env.vectorization={vectorization}")
    result = train(config, listener=events)
    assert result.status is RunStatus.FINISHED
    warnings = [event.text for event in events.of(Warned)]
    assert warnings
    assert all("failed in close (OSError: closed already)" in text for text in warnings)
    (run,) = runs()
    assert run.info.status == "FINISHED"


# -- One instance


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.usefixtures("_brief_end")
def test_one_instance_serves_training_and_evaluation(
    small: Small, vectorization: str, tmp_path: Path
) -> None:
    config = small(
        "env.id=tests.odd:Licensed-v0",
        f"env.kwargs={{lock: {tmp_path / 'lock'}}}",
        f"env.vectorization={vectorization}",
        "evaluation.shares_environment=true",
    )
    result = train(config)
    assert result.status is RunStatus.FINISHED
    assert result.final is not None
    assert (result.final.returns, result.final.lengths) == ((5.0,) * 6, (5,) * 6)
    assert [each.env_steps for each in result.evaluations] == [20, 40, 60, 80]
    assert not (tmp_path / "lock").exists()


def test_a_second_instance_that_cannot_be_made_names_the_remedy(
    small: Small, tmp_path: Path
) -> None:
    licensed = ("env.id=tests.odd:Licensed-v0", f"env.kwargs={{lock: {tmp_path / 'lock'}}}")
    with pytest.raises(dqnkit.DqnkitError, match="the licence is in use") as caught:
        train(small(*licensed))
    (note,) = caught.value.__notes__
    assert "one of 4 for evaluation, beside env.num_envs=1 for training" in note
    assert "evaluation.shares_environment=true" in note
    assert not (tmp_path / "lock").exists()


# -- Interruptions outside training


class _Interrupt:
    """Requests the end of a run at its first event of a class, and measures until it ends."""

    def __init__(self, kind: type[Event]) -> None:
        self.interrupts, self.events = Interrupts(), Events()
        self._act = once(kind, self._request)

    def __call__(self, event: Event) -> None:
        self.events(event)
        self._act(event)

    def _request(self) -> None:
        self.interrupts.request(RunStatus.KILLED)
        self.requested_at = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.requested_at


@pytest.mark.usefixtures("_brief_end")
def test_an_endless_first_evaluation_is_shown_and_interrupted(small: Small) -> None:
    interrupt = _Interrupt(Evaluating)
    with pytest.raises(InterruptedRun, match=r"after 0 of 60 iterations; .*--resume") as caught:
        train(small(*SLOW), listener=interrupt, interrupts=interrupt.interrupts)
    assert interrupt.seconds < PROMPT
    assert "the checkpoint of iteration 0 is kept" in caught.value.__notes__[0]
    (shown,) = interrupt.events.of(Evaluating)
    assert (shown.finished, shown.total) == (0, 2)
    assert shown.steps > 10
    assert interrupt.events.of(Evaluated) == []
    (run,) = runs()
    assert run.info.status == "KILLED"


@pytest.mark.usefixtures("_brief_end")
def test_initial_steps_are_shown_interrupted_and_continued(small: Small) -> None:
    interrupt = _Interrupt(Collecting)
    steps = ("training.initial_collect_steps=400", "evaluation.max_episode_steps=10")
    with pytest.raises(InterruptedRun):
        train(small(*SLOW, *steps), listener=interrupt, interrupts=interrupt.interrupts)
    assert interrupt.seconds < PROMPT
    (shown,) = interrupt.events.of(Collecting)
    assert 10 < shown.env_steps < shown.total == 400
    assert interrupt.events.of(Evaluating) == interrupt.events.of(Evaluated) == []
    result = resume("latest")
    assert result.status is RunStatus.FINISHED
    assert result.evaluations[0].env_steps == 400


@pytest.mark.usefixtures("_brief_end")
def test_no_evaluation_is_begun_after_an_interruption(small: Small) -> None:
    interrupt = _Interrupt(Progress)
    short = "evaluation.max_episode_steps=10"
    result = train(small(*SLOW, short), listener=interrupt, interrupts=interrupt.interrupts)
    assert interrupt.seconds < PROMPT
    assert result.status is RunStatus.KILLED
    assert result.final is None
    assert len(result.evaluations) == 1


@pytest.mark.usefixtures("_brief_end")
def test_final_episodes_are_interrupted_and_played_by_the_resumed_run(small: Small) -> None:
    settings = ("evaluation.final_episodes=200", "evaluation.max_episode_steps=10")
    interrupts = Interrupts()

    def listener(event: Event) -> None:
        if isinstance(event, Evaluating) and event.total == 200:
            interrupts.request(RunStatus.KILLED)

    result = train(small(*SLOW, *settings), listener=listener, interrupts=interrupts)
    assert (result.status, result.iterations, result.final) == (RunStatus.KILLED, 60, None)
    again = resume("latest")
    assert again.status is RunStatus.FINISHED
    assert again.evaluations == result.evaluations
    assert again.final is not None
    assert len(again.final.returns) == 200


@pytest.mark.usefixtures("_brief_end")
def test_the_fault_of_a_shared_environment_is_the_one_that_is_named(small: Small) -> None:
    """A dead simulator cannot be reset either."""
    config = small(
        "env.id=tests.odd:Dying-v0",
        "evaluation.shares_environment=true",
        "training.initial_collect_steps=5",
    )
    with pytest.raises(EnvironmentFailedError, match=r"failed in step \d.*: ValueError: the real"):
        train(config)


# -- Steps that do not return


def _interrupt_when_it_hangs() -> None:
    while not Path("hanging").exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("oddity", ["sleeps", "spins"])
@pytest.mark.usefixtures("_brief_end")
def test_one_signal_ends_a_run_whose_environment_hangs(
    small: Small, vectorization: str, oddity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "PATIENCE_SECONDS", 0.5)
    config = small(
        ODD,
        f"env.kwargs={{oddity: {oddity}}}",
        f"env.vectorization={vectorization}",
        "training.checkpoint_interval=5",
        "evaluation.num_eval_episodes=1",
    )
    began = time.monotonic()
    threading.Thread(target=_interrupt_when_it_hangs, daemon=True).start()
    with pytest.raises(InterruptedRun, match=r"did not return within 0\.5 seconds") as caught:
        train(config)
    assert time.monotonic() - began < 30
    assert "the checkpoint of iteration 5 is kept; `dqnkit train --resume" in str(
        caught.value.__notes__
    )
    (run,) = runs()
    assert run.info.status == "KILLED"


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_one_signal_ends_a_constructor_that_hangs(
    small: Small, vectorization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals are blocked while processes start, which must not block them in what follows."""
    monkeypatch.setattr(watchdog, "PATIENCE_SECONDS", 0.5)
    before = set(multiprocessing.active_children())
    hanging = ("env.kwargs={oddity: constructor hangs}", f"env.vectorization={vectorization}")
    threading.Thread(target=_interrupt_when_it_hangs, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(InterruptedRun, match=r"did not return within 0\.5 seconds"):
        train(small(ODD, *hanging))
    assert time.monotonic() - began < 30
    assert runs() == []  # a run that cannot be made leaves no record
    for process in set(multiprocessing.active_children()) - before:
        process.join(10)
        assert not process.is_alive()


@pytest.mark.usefixtures("_brief_end")
def test_a_keyboard_interrupt_tells_how_to_continue(small: Small) -> None:
    """A second Ctrl-C raises it, and so does the code of some windows that are closed."""
    config = small(ODD, "env.kwargs={oddity: interrupts}", "training.checkpoint_interval=5")
    with pytest.raises(InterruptedRun, match="interrupted at once after 9 of 60") as caught:
        train(config)
    assert "the checkpoint of iteration 5 is kept" in str(caught.value.__notes__)
    (run,) = runs()
    assert run.info.status == "KILLED"


@pytest.mark.parametrize(("oddity", "name"), [("leaves", "GeneratorExit"), ("cancels", "Cancel")])
def test_exceptions_that_are_no_errors_are_failures_of_the_environment(
    small: Small, oddity: str, name: str
) -> None:
    with pytest.raises(EnvironmentFailedError, match=rf"failed in step \d+ of an episode: {name}"):
        train(small(ODD, f"env.kwargs={{oddity: {oddity}}}"))
    (run,) = runs()
    assert run.info.status == "FAILED"


@pytest.mark.usefixtures("_brief_end")
def test_slow_steps_are_interrupted_one_by_one(small: Small) -> None:
    """A first chunk of ten iterations would take two seconds."""
    interrupts = Interrupts()
    slow = ("env.id=tests.odd:Slow-v0", "env.kwargs={seconds: 0.2}")
    short = ("training.initial_collect_steps=1", "evaluation.max_episode_steps=1")
    timer = threading.Timer(0.3, interrupts.request, [RunStatus.KILLED])
    result = train(
        small(*slow, *short), listener=once(Evaluated, timer.start), interrupts=interrupts
    )
    assert 1 <= result.iterations <= 5


# -- The working directory


@pytest.mark.parametrize("uri", ["auto", "here"])
def test_an_environment_that_changes_the_folder_moves_neither_store_nor_files(
    small: Small, uri: str
) -> None:
    folder = Path.cwd()
    Path("map.txt").touch()
    kwargs = "env.kwargs={oddity: changes folder, reads: map.txt}"
    config = small(ODD, kwargs, "training.num_iterations=20", "env.num_envs=2")
    result = train(config, tracking_uri=uri)
    assert Path.cwd() == folder
    assert (folder / {"auto": "mlruns"}.get(uri, uri) / "mlflow.db").is_file()
    assert ("--tracking-uri" in " ".join(result.hints.values())) == (uri != "auto")
    assert dqnkit.evaluate("latest", 2, tracking_uri=uri).is_recorded
    video = dqnkit.render("latest", output="a.gif", tracking_uri=uri)
    assert video.path == Path("a.gif")
    assert (folder / "a.gif").is_file()
    assert dqnkit.load_policy("latest", tracking_uri=uri).spec.num_actions == 2
    (saved,) = folder.glob("*/artifacts/small/*/artifacts/policy")
    alone = dqnkit.render(str(saved.relative_to(folder)), tracking_uri=None)
    assert (folder / str(alone.path)).is_file()
    assert Path.cwd() == folder
