"""Runs that are interrupted or killed, and continue from their checkpoints."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from cli import main
from dqnkit._system import arrays
from dqnkit.config.sections import Config
from dqnkit.errors import (
    BusyRunError,
    CheckpointError,
    ConfigError,
    DqnkitError,
    EnvironmentFailedError,
    InterruptedRun,
    TrackingError,
)
from dqnkit.events import Event, Progress, RunStarted, RunStatus, Warned
from dqnkit.processes.interrupts import Interrupts
from dqnkit.runs import trainer
from dqnkit.runs.result import TrainResult
from dqnkit.runs.resumption import Resumption, find_resumption
from dqnkit.runs.sync import sync
from dqnkit.runs.trainer import resume, train
from dqnkit.tracking import mlflow_tracker
from dqnkit.tracking.client import connect
from dqnkit.tracking.factory import make_tracker
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.outbox import Outbox
from dqnkit.tracking.store import RunStore
from tests import environments
from tests.events import Events, once, stop_at
from tests.faulty import BROKEN
from tests.processes import assert_same_state, client, last_state, points, repeated, runs
from tests.runs import make_store
from tests.servers import free_port

Small = Callable[..., Config]


@pytest.fixture(autouse=True)
def _store(_brief_end: None) -> None:
    make_store()


def slow(*assignments: str) -> Any:
    """A variant for the slow suite."""
    return pytest.param(assignments, marks=pytest.mark.slow)


def find(reference: str = "latest") -> Resumption:
    return find_resumption(RunStore(locate_store()), reference)


def resume_found(found: Resumption, monkeypatch: pytest.MonkeyPatch) -> TrainResult:
    """Resume a run that was found earlier, as a process does that is slow to continue it."""
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "find_resumption", lambda *_: found)
        return resume("latest")


def _interrupted(config: Config, iteration: int = 25) -> Any:
    """Train a run that ends at the first chunk from an iteration on; return its record."""
    interrupts = Interrupts()
    train(config, listener=stop_at(iteration, interrupts), interrupts=interrupts)
    (run,) = runs()
    assert run.info.status == "KILLED"
    return run


@pytest.mark.parametrize(
    "variant",
    [
        (),
        slow("agent.kind=double_c51", "agent.n_step=3", "agent.v_min=0", "agent.v_max=50"),
        slow("replay.kind=prioritized", "network.dueling=true"),
        slow("env.id=Acrobot-v1", "env.num_envs=3", "exploration.schedule=linear"),
        slow("env.id=FrozenLake-v1", "optimizer.kind=rmsprop", "optimizer.schedule=linear"),
    ],
)
def test_a_resumed_run_equals_one_that_was_not_interrupted(small: Small, variant: Any) -> None:
    config = small("training.loop=graph", *variant, "training.checkpoint_interval=7")
    _interrupted(config)
    resume("latest")
    result = train(config)
    again, whole = sorted(runs(), key=lambda run: run.info.run_id == result.run_id)
    assert_same_state(last_state(again), last_state(whole))
    same, wanted = repeated(again), repeated(whole)
    assert same.keys() == wanted.keys()
    for key, value in wanted.items():
        if key.startswith(("final/", "late/")):  # logged when it was interrupted, too
            assert same[key][-1] == value[-1]
        else:
            assert same[key] == value


def test_the_host_loop_continues_with_everything_but_its_episodes(small: Small) -> None:
    config = small("replay.kind=prioritized")
    run = _interrupted(config)
    before = last_state(run)
    found = find(run.info.run_id)
    assert found.checkpoint is not None
    assert found.checkpoint.iteration == found.iteration == int(before["loop/iteration"]) < 60
    assert any(name.startswith("random/") for name in before)
    result = resume("latest")
    assert result.iterations == 60
    (run,) = runs()
    steps = [step for step, _ in repeated(run)["train/loss"]]
    assert steps == [20 + 10 * (row + 1) for row in range(6)]


def test_a_resumed_run_starts_at_its_checkpoint(small: Small) -> None:
    run = _interrupted(small())
    iteration = int(last_state(run)["run/iteration"])
    assert 20 < iteration < 60
    events = Events()
    result = resume(run.info.run_name, listener=events)
    (started,) = events.of(RunStarted)
    assert (started.run_id, started.iteration) == (run.info.run_id, iteration)
    assert result.run_id == run.info.run_id
    assert [each.iteration for each in result.evaluations] == [0, 20, 40, 60]
    (run,) = runs()
    assert run.data.tags["dqnkit.resumed_at"] == str(iteration)


def _live() -> Path:
    (folder,) = Path("mlruns/live").iterdir()
    return folder


def _killed(config: Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train a run whose process dies without another call, after checkpoints at 20 and 40."""

    class Gone(BaseException):
        pass

    made: list[MlflowTracker] = []

    def make(*arguments: Any) -> Any:
        tracker = make_tracker(*arguments)
        assert isinstance(tracker, MlflowTracker)
        made.append(tracker)
        return tracker

    def die(event: Event) -> None:
        if isinstance(event, Progress) and event.iteration > 40:
            for method in ("add_artifacts", "describe", "finish"):
                monkeypatch.setattr(made[0], method, lambda *_, **__: [])
            raise Gone

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "make_tracker", make)
        with pytest.raises(Gone):
            train(config, listener=die)
    made[0]._outbox.close()  # type: ignore[union-attr]  # as the end of a process does
    monkeypatch.setattr("dqnkit.processes.identity.is_dead", lambda _: True)
    return runs()[0]


def test_the_checkpoint_before_a_damaged_one_is_used_with_a_warning(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("training.loop=graph", "training.checkpoint_interval=20")
    run = _killed(config, monkeypatch)
    first, second = sorted((_live() / "checkpoints").iterdir())
    assert [path.name for path in (first, second)] == [
        "iteration-000000000020.npz",
        "iteration-000000000040.npz",
    ]
    content = second.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (b"", flipped, content[:middle]):
        second.write_bytes(damaged)
        found = find(run.info.run_id)
        assert found.checkpoint is not None
        assert found.checkpoint.iteration == 20
        (warning,) = found.warnings
        assert "iteration-000000000040.npz" in warning
        assert "the one before it is used" in warning

    events = Events()
    assert resume("latest", listener=events).iterations == 60
    assert events.of(Warned) == [Warned(warning)]
    whole = train(config)
    states = {each.info.run_id: last_state(each) for each in runs()}
    assert_same_state(states[run.info.run_id], states[whole.run_id or ""])


def test_a_run_without_a_checkpoint_begins_anew_in_its_record(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    run = _killed(config, monkeypatch)
    found = find()
    assert found.checkpoint is None
    assert found.iteration == 0
    assert "has no checkpoint; it starts over" in found.warnings[0]
    assert resume("latest").run_id == run.info.run_id
    whole = train(config)
    metrics = {each.info.run_id: repeated(each) for each in runs()}
    assert metrics[run.info.run_id] == metrics[whole.run_id or ""]


def test_a_run_that_cannot_be_resumed_is_refused_with_the_reason(small: Small) -> None:
    result = train(small())
    with pytest.raises(ConfigError, match=r"is complete, with all 60 iterations; to train longer"):
        resume("latest")
    with pytest.raises(ConfigError, match="no run"):
        resume("nobody")
    store = connect(locate_store())
    store.set_tag(result.run_id, "dqnkit.study", "a-search")
    with pytest.raises(ConfigError, match=r"belongs to the study 'a-search'"):
        resume("latest")


def test_a_run_of_another_kind_is_refused(small: Small) -> None:
    result = train(small())
    assert result.run_id is not None
    connect(locate_store()).set_tag(result.run_id, "dqnkit.kind", "seeds")
    with pytest.raises(ConfigError, match="is not the training of one seed"):
        resume(result.run_id)


def test_only_one_process_at_a_time_resumes_a_run(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted(small())
    found = find()

    def intrude() -> None:
        with pytest.raises(ConfigError, match="is being trained"):
            find()
        with pytest.raises(DqnkitError, match="in use by another process"):
            resume_found(found, monkeypatch)

    assert resume("latest", listener=once(RunStarted, intrude)).status is RunStatus.FINISHED
    (run,) = runs()
    assert run.info.status == "FINISHED"


def test_the_cost_of_checkpoints_is_reported(small: Small) -> None:
    result = train(small("training.checkpoint_interval=20"))
    assert result.checkpoints == 3
    assert 0 < result.checkpoint_seconds < result.seconds
    (run,) = runs()
    size = (
        Path(run.info.artifact_uri.removeprefix("file://"), "checkpoints/last.npz").stat().st_size
    )
    assert result.checkpoint_megabytes * 1e6 == pytest.approx(size, rel=0.02)
    assert run.data.metrics["time/checkpoint_seconds"] == result.checkpoint_seconds


def test_a_foreign_file_is_not_the_checkpoint_of_a_run(small: Small) -> None:
    run = _interrupted(small())
    last = Path(run.info.artifact_uri.removeprefix("file://"), "checkpoints/last.npz")
    arrays.save_arrays(last, {"online": np.zeros(3)})
    with pytest.raises(CheckpointError, match=r"left as it is: .* is not the checkpoint of a run"):
        find()
    assert arrays.load_arrays(last).keys() == {"online"}
    with pytest.raises(CheckpointError):
        arrays.load_arrays(Path("nowhere.npz"))


def test_an_interruption_names_the_command_that_continues(small: Small) -> None:
    with pytest.raises(InterruptedRun) as caught:
        train(small(), listener=once(Progress, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    (run,) = runs()
    assert f"dqnkit train --resume {run.info.run_id[:8]}` continues it" in str(caught.value)


def test_a_failed_resumption_loses_nothing_that_is_pending(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._SHORT_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._RETRY_SECONDS", (0.1,))
    interrupts = Interrupts()
    config = small()
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "set_terminated", gone)
        train(config, listener=stop_at(25, interrupts), interrupts=interrupts)
        found = Resumption(runs()[0].info.run_id, "small", config, None, None)
        away.setattr(MlflowClient, "get_run", gone)
        with pytest.raises(DqnkitError, match="away"):
            resume_found(found, monkeypatch)
    (synced,) = sync().runs
    assert synced.sent
    assert runs()[0].info.status == "KILLED"


def test_a_killed_run_is_listed_as_pending_and_synced_with_its_checkpoint(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    run = _killed(small("training.checkpoint_interval=20"), monkeypatch)
    assert main.run(["runs"]) == 0
    assert "1 run is not fully in the store" in capsys.readouterr().err

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_artifacts", gone)
        for _ in range(2):
            assert sync().left == 1
    assert len(list(_live().glob("files/*/checkpoints"))) == 1
    assert sync().left == 0
    assert runs()[0].info.status == "KILLED"
    found = find(run.info.run_id)
    assert found.checkpoint is not None
    assert found.checkpoint.iteration == 40
    assert main.run(["runs"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("step", ["_make_components", "_Trainer._compile"])
def test_a_failed_resumption_keeps_the_checkpoint_that_it_began_from(
    small: Small, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    config = small("training.checkpoint_interval=20")
    with monkeypatch.context() as patched:
        _killed(config, patched)
        found = find()
    before, left = runs()[0], _below(Path("mlruns/live"))

    def fails(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(f"dqnkit.runs.trainer.{step}", fails)
        with pytest.raises(RuntimeError, match="no memory") as caught:
            resume_found(found, patched)
    if step == "_make_components":  # the record is not touched
        assert runs()[0].to_dictionary() == before.to_dictionary()
        assert _below(Path("mlruns/live")) == left
    else:
        assert "the checkpoint of iteration 40 is kept" in "".join(caught.value.__notes__)
        assert not list(Path("mlruns/live").iterdir())
    again = find()
    assert again.checkpoint is not None
    assert again.checkpoint.iteration == 40


def _below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_was_continued_after_it_was_found_is_refused(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have found the same ended run; the second starts when the first is done."""
    _interrupted(small())
    found = find()
    assert resume("latest").status is RunStatus.FINISHED
    before = runs()[0]
    with pytest.raises(BusyRunError, match="has been continued in the meantime and is FINISHED"):
        resume_found(found, monkeypatch)
    assert runs()[0].to_dictionary() == before.to_dictionary()


def test_of_two_processes_that_resume_at_the_same_moment_one_succeeds(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have found the same ended run; the first is about to set it to RUNNING."""
    _interrupted(small())
    found = find()
    resume_run = mlflow_tracker.resume_run

    def after_the_other(*arguments: Any, **named: Any) -> bool:
        monkeypatch.setattr(mlflow_tracker, "resume_run", resume_run)
        with pytest.raises(BusyRunError, match="in use by another process"):
            resume_found(found, monkeypatch)
        return resume_run(*arguments, **named)

    monkeypatch.setattr(mlflow_tracker, "resume_run", after_the_other)
    assert resume("latest").status is RunStatus.FINISHED


def test_a_run_that_another_host_continues_is_left_alone(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks do not reach other hosts, so the record alone tells."""
    run = _interrupted(small())
    found = find()
    with monkeypatch.context() as patched:
        patched.setattr("dqnkit.processes.identity.identity", lambda: "elsewhere/b/n/1/1")
        assert mlflow_tracker.resume_run(client(), run.info.run_id, {}, exclusive=True)
    with pytest.raises(BusyRunError, match="is being trained on elsewhere"):
        resume_found(found, monkeypatch)
    assert runs()[0].info.status == "RUNNING"


def test_a_resumed_host_loop_logs_beside_the_points_after_its_checkpoint(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other episodes follow, and the curve ends with those of the policy that is kept."""
    config = small("training.checkpoint_interval=20")
    with monkeypatch.context() as patched:
        _killed(config, patched)
        found = find()
    assert found.checkpoint is not None
    start = found.checkpoint.iteration
    result = resume_found(found, monkeypatch)
    (run,) = runs()
    steps = [step for step, _ in points(run)["train/loss"]]
    later = [step for step in steps if step > 20 + start]
    assert sorted(set(later)) == [20 + 10 * row for row in range(start // 10 + 1, 7)]
    history = client().get_metric_history(run.info.run_id, "eval/return_mean")
    last = {point.step: point.value for point in sorted(history, key=lambda p: p.timestamp)}
    assert last == {each.env_steps: each.summary.mean for each in result.evaluations}


def test_a_kill_while_the_outbox_is_removed_costs_no_checkpoint(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is delivered; the folder that was to be removed holds an older checkpoint."""
    config = small("training.checkpoint_interval=20")
    with monkeypatch.context() as killed:
        killed.setattr(Outbox, "remove", Outbox.close)
        train(config)
    assert len(list(_live().glob("checkpoints/*.npz"))) == 2
    before = last_state(runs()[0])
    assert sync().left == 0
    assert_same_state(last_state(runs()[0]), before)
    assert runs()[0].info.status == "FINISHED"
    assert not list(Path("mlruns/live").iterdir())


def test_a_run_of_another_store_is_not_sent_to_this_one(
    small: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.1)
    nobody = f"http://127.0.0.1:{free_port()}"
    train(small(), tracking_uri=nobody)
    assert main.run(["runs"]) == 0
    assert f"dqnkit sync --tracking-uri {nobody}" in capsys.readouterr().err
    (synced,) = sync().runs
    assert not synced.sent
    assert nobody in synced.why
    assert runs() == []
    assert len(list(Path("mlruns/live").iterdir())) == 1


def test_a_server_that_accepts_and_never_answers_costs_seconds_and_no_run(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._OPEN_SECONDS", 0.5)
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.5)
    events = Events()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = train(small(), tracking_uri=uri, listener=events)
    assert result.status is RunStatus.FINISHED
    assert result.iterations == 60
    assert "does not answer" in events.of(Warned)[0].text
    assert "sends them" in result.problems[0]
    assert result.hints["page"] == uri


def test_a_checkpoint_that_cannot_be_fetched_stops_a_resume(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers 500 for one file must not cost the whole training."""
    _interrupted(small())
    store = RunStore(locate_store())
    remote = replace(store.location, database=None)
    monkeypatch.setattr(store, "location", remote)

    def fail(*_: object) -> None:
        raise TrackingError("error code 500")

    for method in ("artifacts", "fetch"):
        with monkeypatch.context() as patched:
            patched.setattr(RunStore, method, fail)
            with pytest.raises(CheckpointError, match=r"cannot be read, .*error code 500"):
                find_resumption(store, "latest")
    assert find_resumption(store, "latest").checkpoint is not None


def test_a_checkpoint_that_waits_to_be_delivered_is_used(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def refuse(*_: object) -> None:
        raise OSError("413 Client Error: too large")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", refuse)
        patched.setattr(mlflow_tracker, "_PATIENCE_SECONDS", 0.5)
        patched.setattr(mlflow_tracker, "_SHORT_PATIENCE_SECONDS", 0.5)
        _interrupted(small("training.checkpoint_interval=1000"))
    (folder,) = Path("mlruns/live").iterdir()
    waiting = list(folder.glob("files/*/checkpoints/last.npz"))
    assert waiting
    for path in folder.glob("checkpoints/*"):
        path.unlink()
    found = find()
    assert found.checkpoint is not None
    assert found.iteration >= 25


def test_the_cost_of_checkpoints_and_compilation_is_that_of_all_processes(small: Small) -> None:
    config = small("training.checkpoint_interval=20")
    interrupts = Interrupts()
    first = train(config, listener=stop_at(40, interrupts), interrupts=interrupts)
    result = resume("latest")
    assert result.checkpoints == 3
    assert result.compile_seconds > first.compile_seconds > 0
    interrupts = Interrupts()
    last = train(small(), listener=stop_at(55, interrupts), interrupts=interrupts)
    assert resume(last.run_name).checkpoint_megabytes == last.checkpoint_megabytes > 0


def test_an_environment_that_has_changed_is_named(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted(small("env.id=tests.environments:Corridor-v0"))
    wider = gymnasium.spaces.Box(-1, 1, (7,), np.float32)
    monkeypatch.setitem(environments.VIEWS, "state", wider)
    with pytest.raises(CheckpointError, match=r"does not fit .*\(7,\) float32.* has changed since"):
        resume("latest")


def test_a_run_that_fails_before_its_first_step_keeps_its_configuration(small: Small) -> None:
    """The environment fails in its first reset."""
    kwargs = "env.kwargs={fault: raise, call: reset, after: 0}"
    BROKEN.touch()
    with pytest.raises(EnvironmentFailedError, match="out of ice"):
        train(small("env.id=tests.faulty:Faulty-v0", kwargs))
    (run,) = runs()
    assert run.info.status == "FAILED"
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "config.yaml").is_file()
    BROKEN.unlink()
    assert resume("latest").status is RunStatus.FINISHED
