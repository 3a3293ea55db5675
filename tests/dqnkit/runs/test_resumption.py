"""Runs go on from their checkpoints as if they had never stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dqnkit.runs.reporting import Progress, SilentReporter

from cli import main
from dqnkit._system import arrays
from dqnkit.config.sections import Config
from dqnkit.errors import (
    BusyRunError,
    CheckpointError,
    ConfigError,
    DqnkitError,
    InterruptedRun,
)
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts
from dqnkit.runs import resumption
from dqnkit.runs.result import TrainResult
from dqnkit.runs.trainer import resume, train
from dqnkit.tracking import location, make_tracker, sync
from dqnkit.tracking.store import RunStore
from tests.processes import assert_same_state, client, last_state, points, repeated, runs
from tests.runs import make_store
from tests.servers import free_port

Small = Callable[..., Config]


@pytest.fixture(autouse=True)
def _store() -> None:
    make_store()


def slow(*assignments: str) -> Any:
    """A variant for the slow suite."""
    return pytest.param(assignments, marks=pytest.mark.slow)


def _go_on(reference: str = "latest") -> TrainResult:
    found = resumption.find(RunStore(location.locate_store()), reference)
    return resume(found, make_tracker(found.config))


class _Stop(SilentReporter):
    """Ends the run at a chunk."""

    def __init__(self, interrupts: Interrupts, iteration: int) -> None:
        self._interrupts, self._iteration = interrupts, iteration

    def progressed(self, progress: Progress) -> None:
        if progress.iteration >= self._iteration:
            self._interrupts.request(RunStatus.KILLED)


def _broken_off(config: Config, iteration: int = 25) -> Any:
    """A run that has ended at the first chunk from an iteration on."""
    interrupts = Interrupts()
    train(config, make_tracker(config), _Stop(interrupts, iteration), None, interrupts)
    (run,) = runs()
    assert run.info.status == "KILLED"
    return run


@pytest.mark.parametrize(
    "variant",
    [
        ("agent.kind=double_c51", "agent.n_step=3", "agent.v_min=0", "agent.v_max=50"),
        slow("replay.kind=prioritized", "network.dueling=true"),
        slow("env.id=Acrobot-v1", "env.num_envs=3", "exploration.schedule=linear"),
        slow("env.id=FrozenLake-v1", "optimizer.kind=rmsprop", "optimizer.schedule=linear"),
    ],
)
def test_a_run_that_goes_on_is_one_that_never_stopped(small: Small, variant: Any) -> None:
    config = small(*variant, "training.checkpoint_interval=7")
    _broken_off(config)
    _go_on()
    result = train(config, make_tracker(config))
    again, whole = sorted(runs(), key=lambda run: run.info.run_id == result.run_id)
    assert_same_state(last_state(again), last_state(whole))
    same, wanted = repeated(again), repeated(whole)
    assert same.keys() == wanted.keys()
    for key, value in wanted.items():
        if key.startswith(("final/", "late/")):  # which it had when it was broken off, too
            assert same[key][-1] == value[-1]
        else:
            assert same[key] == value


def test_a_run_in_python_goes_on_with_all_but_its_episode(small: Small) -> None:
    config = small("training.loop=host", "replay.kind=prioritized")
    run = _broken_off(config)
    before = last_state(run)
    found = resumption.find(RunStore(location.locate_store()), run.info.run_id)
    assert found.snapshot is not None
    assert found.snapshot.iteration == int(before["loop/counters"][0]) < 60
    assert any(name.startswith("random/") for name in before)
    result = _go_on()
    assert result.iterations == 60
    (run,) = runs()
    steps = [step for step, _ in repeated(run)["train/loss"]]
    assert steps == [20 + 10 * (row + 1) for row in range(6)]


def _live() -> Path:
    (folder,) = Path("mlruns/live").iterdir()
    return folder


def _killed(config: Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run whose process has gone without a word, after checkpoints at 20 and 40."""

    class Gone(BaseException):
        pass

    tracker = make_tracker(config)

    class Dies(SilentReporter):
        def progressed(self, progress: Progress) -> None:
            if progress.iteration > 40:
                for method in ("artifacts", "describe", "finish"):
                    monkeypatch.setattr(tracker, method, lambda *_, **__: [])
                raise Gone

    with pytest.raises(Gone):
        train(config, tracker, Dies())
    tracker._journal.close()  # type: ignore[attr-defined]  # as the end of a process does
    monkeypatch.setattr("dqnkit.processes.identity.is_dead", lambda _: True)
    return runs()[0]


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_the_checkpoint_before_a_damaged_one_is_taken_with_a_warning(
    small: Small, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("training.checkpoint_interval=20")
    run = _killed(config, monkeypatch)
    first, second = sorted((_live() / "checkpoints").iterdir())
    assert [path.name for path in (first, second)] == [
        "iteration-000000000020.npz",
        "iteration-000000000040.npz",
    ]
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    half = bytes(content[: len(content) // 2])
    second.write_bytes({"torn": half, "flipped": bytes(content), "empty": b""}[damage])
    found = resumption.find(RunStore(location.locate_store()), run.info.run_id)
    assert found.snapshot is not None
    assert found.snapshot.iteration == 20
    (warning,) = found.warnings
    assert "iteration-000000000040.npz" in warning
    assert "the one before it is taken" in warning

    assert resume(found, make_tracker(found.config)).iterations == 60
    whole = train(config, make_tracker(config))
    states = {each.info.run_id: last_state(each) for each in runs()}
    assert_same_state(states[run.info.run_id], states[whole.run_id or ""])


def test_a_run_without_a_checkpoint_begins_anew_in_its_record(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    run = _killed(config, monkeypatch)
    found = resumption.find(RunStore(location.locate_store()), "latest")
    assert found.snapshot is None
    assert "has no checkpoint yet, and begins anew" in found.warnings[0]
    assert resume(found, make_tracker(found.config)).run_id == run.info.run_id
    whole = train(config, make_tracker(config))
    metrics = {each.info.run_id: repeated(each) for each in runs()}
    assert metrics[run.info.run_id] == metrics[whole.run_id or ""]


def test_what_cannot_go_on_says_why(small: Small) -> None:
    config = small()
    result = train(config, make_tracker(config))
    with pytest.raises(ConfigError, match=r"is complete, with all 60 iterations; to train longer"):
        _go_on()
    with pytest.raises(ConfigError, match="no run"):
        _go_on("nobody")
    from dqnkit.tracking.client import connect

    connect(location.locate_store()).set_tag(result.run_id, "dqnkit.study", "a-search")
    with pytest.raises(ConfigError, match=r"belongs to the study 'a-search'"):
        _go_on()


def test_a_run_goes_on_only_once_at_a_time(small: Small) -> None:
    config = small()
    _broken_off(config)
    found = resumption.find(RunStore(location.locate_store()), "latest")
    first, second = make_tracker(found.config), make_tracker(found.config)

    class Intruder(SilentReporter):
        def started(self, compile_seconds: float, iteration: int) -> None:
            with pytest.raises(ConfigError, match="is being trained"):
                resumption.find(RunStore(location.locate_store()), "latest")
            with pytest.raises(DqnkitError, match="in use by another process"):
                resume(found, second)

    assert resume(found, first, Intruder()).status is RunStatus.FINISHED
    (run,) = runs()
    assert run.info.status == "FINISHED"


def test_what_checkpoints_cost_is_reported(small: Small) -> None:
    config = small("training.checkpoint_interval=20")
    result = train(config, make_tracker(config))
    assert result.checkpoints == 3
    assert 0 < result.checkpoint_seconds < result.seconds
    (run,) = runs()
    size = (
        Path(run.info.artifact_uri.removeprefix("file://"), "checkpoints/last.npz").stat().st_size
    )
    assert result.checkpoint_megabytes * 1e6 == pytest.approx(size, rel=0.02)
    assert run.data.metrics["time/checkpoint_seconds"] == result.checkpoint_seconds


def test_a_foreign_file_is_no_checkpoint_of_a_run(small: Small) -> None:
    run = _broken_off(small())
    last = Path(run.info.artifact_uri.removeprefix("file://"), "checkpoints/last.npz")
    arrays.save_arrays(last, {"online": np.zeros(3)})
    found = resumption.find(RunStore(location.locate_store()), "latest")
    assert found.snapshot is None
    assert "is not a checkpoint that a run goes on from" in found.warnings[0]
    with pytest.raises(CheckpointError):
        arrays.load_arrays(Path("nowhere.npz"))


def test_an_interruption_gives_the_line_that_goes_on(small: Small) -> None:
    import os
    import signal

    class Struck(SilentReporter):
        def progressed(self, progress: Progress) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    config = small()
    with pytest.raises(InterruptedRun) as caught:
        train(config, make_tracker(config), Struck())
    (run,) = runs()
    assert f"dqnkit train --resume {run.info.run_id[:8]}` goes on" in str(caught.value)


def test_a_resumption_that_fails_loses_nothing_of_what_waits(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._HASTE_SECONDS", 0.1)
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._RETRY_SECONDS", (0.1,))
    interrupts = Interrupts()
    config = small()
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "set_terminated", gone)
        train(config, make_tracker(config), _Stop(interrupts, 25), None, interrupts)
        found = resumption.Resumption(runs()[0].info.run_id, "small", config, None, None)
        away.setattr(MlflowClient, "get_run", gone)
        with pytest.raises(DqnkitError, match="away"):
            resume(found, make_tracker(config))
    (synced,) = sync.sync(location.locate_store()).runs
    assert synced.sent
    assert runs()[0].info.status == "KILLED"


def test_a_killed_run_is_told_of_and_sent_with_its_checkpoint(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    run = _killed(small("training.checkpoint_interval=20"), monkeypatch)
    assert main.run(["runs"]) == 0
    assert "of 1 run not all is in the store" in capsys.readouterr().err

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_artifacts", gone)
        for _ in range(2):
            assert sync.sync(location.locate_store()).left == 1
    assert len(list(_live().glob("files/*/checkpoints"))) == 1
    assert sync.sync(location.locate_store()).left == 0
    assert runs()[0].info.status == "KILLED"
    found = resumption.find(RunStore(location.locate_store()), run.info.run_id)
    assert found.snapshot is not None
    assert found.snapshot.iteration == 40
    assert main.run(["runs"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("step", ["make_parts", "compile"])
def test_a_resumption_that_fails_keeps_the_checkpoint_that_it_began_from(
    small: Small, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from dqnkit.runs import trainer as training

    config = small("training.checkpoint_interval=20")
    with monkeypatch.context() as patched:
        _killed(config, patched)
        found = resumption.find(RunStore(location.locate_store()), "latest")
    before, left = runs()[0], _below(Path("mlruns/live"))

    def fails(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(training._Run, step, fails)
        with pytest.raises(RuntimeError, match="no memory") as caught:
            resume(found, make_tracker(config))
    if step == "make_parts":  # the record is not even looked at
        assert runs()[0].to_dictionary() == before.to_dictionary()
        assert _below(Path("mlruns/live")) == left
    else:
        assert "the checkpoint of iteration 40 is kept" in "".join(caught.value.__notes__)
        assert not list(Path("mlruns/live").iterdir())
    again = resumption.find(RunStore(location.locate_store()), "latest")
    assert again.snapshot is not None
    assert again.snapshot.iteration == 40


def _below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_of_two_that_go_on_one_after_the_other_one_does(small: Small) -> None:
    """Both have seen a run that has ended; the second comes when the first is done."""
    config = small()
    _broken_off(config)
    found = resumption.find(RunStore(location.locate_store()), "latest")
    assert resume(found, make_tracker(config)).status is RunStatus.FINISHED
    before = runs()[0]
    with pytest.raises(BusyRunError, match="has gone on since, and is FINISHED now"):
        resume(found, make_tracker(config))
    assert runs()[0].to_dictionary() == before.to_dictionary()


def test_of_two_that_go_on_at_the_same_moment_one_does(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen a run that has ended; the first is about to say that it goes on."""
    from dqnkit.tracking import mlflow_tracker

    config = small()
    _broken_off(config)
    found = resumption.find(RunStore(location.locate_store()), "latest")
    take_up = mlflow_tracker.take_up

    def after_the_other(*arguments: Any, **named: Any) -> bool:
        monkeypatch.setattr(mlflow_tracker, "take_up", take_up)
        with pytest.raises(BusyRunError, match="in use by another process"):
            resume(found, make_tracker(config))
        return take_up(*arguments, **named)

    monkeypatch.setattr(mlflow_tracker, "take_up", after_the_other)
    assert resume(found, make_tracker(config)).status is RunStatus.FINISHED


def test_a_run_that_goes_on_elsewhere_is_left_alone(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, of which no lock tells."""
    from dqnkit.tracking import delivery

    config = small()
    run = _broken_off(config)
    found = resumption.find(RunStore(location.locate_store()), "latest")
    with monkeypatch.context() as patched:
        patched.setattr(delivery.processes, "identity", lambda: "elsewhere/b/n/1/1")
        assert delivery.take_up(client(), run.info.run_id, {}, alone=True)
    with pytest.raises(BusyRunError, match="is being trained on elsewhere"):
        resume(found, make_tracker(config))
    assert runs()[0].info.status == "RUNNING"


def test_in_python_what_follows_the_checkpoint_stands_beside_what_is_gone(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other episodes follow, and the curve ends with those of the policy that is kept."""
    config = small("training.loop=host", "training.checkpoint_interval=20")
    with monkeypatch.context() as patched:
        _killed(config, patched)
        found = resumption.find(RunStore(location.locate_store()), "latest")
    assert found.snapshot is not None
    begun_from = found.snapshot.iteration
    result = resume(found, make_tracker(config))
    (run,) = runs()
    steps = [step for step, _ in points(run)["train/loss"]]
    later = [step for step in steps if step > 20 + begun_from]
    assert sorted(set(later)) == [20 + 10 * row for row in range(begun_from // 10 + 1, 7)]
    history = client().get_metric_history(run.info.run_id, "eval/return_mean")
    last = {point.step: point.value for point in sorted(history, key=lambda p: p.timestamp)}
    assert last == {each.env_steps: each.summary.mean for each in result.evaluations}


def test_a_kill_as_it_clears_away_costs_no_checkpoint(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is delivered; an older checkpoint lies in the folder that was to be removed."""
    from dqnkit.tracking.outbox import Outbox

    config = small("training.checkpoint_interval=20")
    with monkeypatch.context() as killed:
        killed.setattr(Outbox, "remove", Outbox.close)
        train(config, make_tracker(config))
    assert len(list(_live().glob("checkpoints/*.npz"))) == 2
    before = last_state(runs()[0])
    assert sync.sync(location.locate_store()).left == 0
    assert_same_state(last_state(runs()[0]), before)
    assert runs()[0].info.status == "FINISHED"
    assert not list(Path("mlruns/live").iterdir())


def test_a_run_of_another_store_is_not_sent_to_this_one(
    small: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.1)
    nobody = f"http://127.0.0.1:{free_port()}"
    config = small()
    train(config, make_tracker(config, nobody))
    assert main.run(["runs"]) == 0
    assert f"dqnkit sync --tracking-uri {nobody}" in capsys.readouterr().err
    (synced,) = sync.sync(location.locate_store()).runs
    assert not synced.sent
    assert nobody in synced.why
    assert runs() == []
    assert len(list(Path("mlruns/live").iterdir())) == 1


def test_a_server_that_is_silent_costs_seconds_and_no_run(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, and says nothing."""
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._OPEN_SECONDS", 0.5)
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.5)
    warned: list[str] = []

    class Hears(SilentReporter):
        def warned(self, text: str) -> None:
            warned.append(text)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = small()
        result = train(config, make_tracker(config, uri), Hears())
    assert result.status is RunStatus.FINISHED
    assert result.iterations == 60
    assert "does not answer" in warned[0]
    assert "sends them" in result.problems[0]
    assert result.hints["page"] == uri
