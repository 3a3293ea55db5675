from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, ConfigError, InterruptedRun, WorkerError
from dqnkit.evaluation import aggregates
from dqnkit.events import (
    Evaluated,
    Event,
    Progress,
    RunAssigned,
    RunEnded,
    SeedEnded,
    SeedsStarted,
    WorkerEvent,
)
from dqnkit.processes.launcher import LocalLauncher
from dqnkit.tracking.location import locate_store
from dqnkit.workers.seed_group import SeedResult
from dqnkit.workers.seeds import check_workers, resume_seeds, train_seeds
from tests import fake_training
from tests.conftest import ROOT
from tests.runs import make_store

Small = Callable[..., Config]


@pytest.fixture(autouse=True)
def _fake_training(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_training" not in request.keywords:
        fake_training.install(monkeypatch)
        make_store()


def _config(*assignments: str) -> Config:
    return loading.default_config(
        "seeded",
        ["training.num_iterations=40", "evaluation.eval_interval=10", *assignments],
    )


def _runs() -> tuple[Any, list[Any]]:
    """Return the group's run and those below it."""
    from mlflow import MlflowClient

    client = MlflowClient(locate_store().uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(ids)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run is not parents[0]]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} <= {parents[0].info.run_id}
    return parents[0], children


def _expected_late(score: float) -> float:
    """Return the late score: the last of four evaluations have 1/4, 2/4, 3/4 and all of it."""
    episodes = [
        score * part + offset for part in (0.25, 0.5, 0.75, 1.0) for offset in (-1, 0, 0, 1)
    ]
    return float(aggregates.interquartile_mean(np.array(episodes)))


def test_seeds_are_trained_below_a_run_with_their_aggregate() -> None:
    config = _config("training.seed=3")
    result = train_seeds(config, 5, workers=2)
    expected = [fake_training.score(config.with_seed(seed)) for seed in range(3, 8)]
    assert [each.seed for each in result.seeds] == [3, 4, 5, 6, 7]
    np.testing.assert_allclose([each.final_mean for each in result.seeds], expected)
    late = [_expected_late(value) for value in expected]
    np.testing.assert_allclose([each.late_iqm for each in result.seeds], late)
    assert result.scores.late == aggregates.estimate(np.array(late))
    assert result.scores.n == 5
    assert result.problems == []

    parent, children = _runs()
    assert parent.info.run_id == result.run_id
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * 5
    assert sorted(int(c.data.params["training.seed"]) for c in children) == [3, 4, 5, 6, 7]
    assert parent.data.params["training.seed"] == "3, 4, 5, 6, 7"
    assert parent.data.tags["dqnkit.kind"] == "seeds"
    assert parent.data.metrics["late/return_iqm"] == pytest.approx(result.scores.late.value)
    assert parent.data.metrics["final/return_ci_low"] == pytest.approx(result.scores.final.low)
    assert parent.data.metrics["seeds"] == 5
    assert "IQM over 5 seeds" in parent.data.tags["mlflow.note.content"]
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((artifacts / "seeds.json").read_text())["seeds"]) == 5
    again = loading.load(str(artifacts / "config.yaml"))
    assert again.training.seed == 3


def test_a_listener_receives_the_events_of_the_group_and_of_its_runs() -> None:
    config = _config()
    events: list[Event] = []
    result = train_seeds(config, 2, workers=1, run_name="my-group", listener=events.append)
    started, *_ = events
    assert isinstance(started, SeedsStarted)
    assert (started.run_name, started.seeds) == ("my-group", (0, 1))
    assigned = [event for event in events if isinstance(event, RunAssigned)]
    assert [event.run_name for event in assigned] == ["my-group-s0", "my-group-s1"]
    assert [event.config.training.seed for event in assigned] == [0, 1]
    assert [event.result for event in events if isinstance(event, SeedEnded)] == [*result.seeds]
    sent = [event for event in events if isinstance(event, WorkerEvent)]
    assert {event.worker for event in sent} == {0}
    iterations = [e.event.evaluation.iteration for e in sent if isinstance(e.event, Evaluated)]
    assert iterations == [0, 10, 20, 30, 40] * 2
    ended = [event.event.result for event in sent if isinstance(event.event, RunEnded)]
    assert [each.run_id for each in ended] == [each.run_id for each in result.seeds]


def test_without_a_store_nothing_is_recorded() -> None:
    before = Path("mlruns/mlflow.db").read_bytes()
    result = train_seeds(_config(), 2, workers=2, tracking_uri=None)
    assert [each.run_id for each in result.seeds] == [None, None]
    assert (result.run_id, result.hints, result.problems) == (None, {}, [])
    assert result.scores.n == 2
    assert Path("mlruns/mlflow.db").read_bytes() == before


def test_a_result_becomes_a_json_document() -> None:
    result = train_seeds(_config("tracking.enabled=false"), 2, workers=1, run_name="my-group")
    document = json.loads(json.dumps(result.as_dict()))
    assert (document["experiment"], document["run_name"]) == ("seeded", "my-group")
    assert [SeedResult.from_dict(each) for each in document["seeds"]] == [*result.seeds]
    assert document["scores"]["late"]["value"] == result.scores.late.value


def test_a_seed_whose_process_dies_is_trained_again_twice() -> None:
    config = _config("tracking.tags={dies: -s1}")
    with pytest.raises(WorkerError, match=r"1 of 3 seeds failed: my-group-s1: .*signal 9"):
        train_seeds(config, 3, workers=2, run_name="my-group")
    parent, children = _runs()
    assert (parent.info.run_name, parent.info.status) == ("my-group", "FAILED")
    statuses = sorted(child.info.status for child in children)
    assert statuses == ["FAILED"] * 3 + ["FINISHED"] * 2
    assert parent.data.metrics["seeds"] == 2


@pytest.mark.parametrize("num_seeds", [2, 4])
def test_a_signal_ends_the_runs_as_killed(num_seeds: int) -> None:
    """Either all runs have started on the two workers, or half of them."""
    evaluations: list[Event] = []

    def interrupt_once(event: Event) -> None:
        if isinstance(event, WorkerEvent) and isinstance(event.event, Evaluated):
            if not evaluations:
                os.kill(os.getpid(), signal.SIGTERM)
            evaluations.append(event)

    config = _config("tracking.tags={seconds: '0.2'}")
    with pytest.raises(InterruptedRun, match=f"SIGTERM after 0 of {num_seeds} seeds"):
        train_seeds(config, num_seeds, workers=2, listener=interrupt_once)
    parent, children = _runs()
    assert parent.info.status == "KILLED"
    assert {child.info.status for child in children} <= {"KILLED"}


def test_an_exception_of_a_listener_closes_the_record_as_failed() -> None:
    def fail(event: Event) -> None:
        if isinstance(event, SeedEnded):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_seeds(_config(), 3, workers=1, listener=fail)
    parent, _ = _runs()
    assert parent.info.status == "FAILED"


@pytest.mark.parametrize(
    ("num_seeds", "workers", "message"),
    [
        (0, None, "num_seeds=0: expected a number from 1 to 1,000"),
        (10_000, None, "num_seeds=10000"),
        (2, 0, "workers=0: expected a number from 1 to 1,024"),
    ],
)
def test_numbers_out_of_range_are_refused(
    num_seeds: int, workers: int | None, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        train_seeds(_config(), num_seeds, workers=workers)


def test_numbers_of_workers_within_range_pass() -> None:
    for workers in (None, 1, 1_024):
        check_workers(workers)
    with pytest.raises(ArgumentError, match="workers=1025"):
        check_workers(1_025)


def test_the_launcher_is_closed_if_the_record_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[LocalLauncher] = []

    def close(self: LocalLauncher) -> None:
        closed.append(self)

    monkeypatch.setattr(LocalLauncher, "close", close)
    Path("a-file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        train_seeds(_config(), 2, tracking_uri="a-file/store")
    assert len(closed) == 1


@pytest.mark.real_training
@pytest.mark.parametrize("loop", ["graph", pytest.param("host", marks=pytest.mark.slow)])
def test_workers_train_what_this_process_would_and_the_parent_loads_no_tensorflow(
    small: Small, loop: str
) -> None:
    from dqnkit.runs.trainer import train

    config = small(f"training.loop={loop}", "training.seed=4", "tracking.enabled=false")
    Path("config.yaml").write_text(loading.dump(config), encoding="utf-8")
    script = (
        "import json, sys\n"
        "import dqnkit\n"
        "if __name__ == '__main__':\n"
        "    config = dqnkit.load('config.yaml')\n"
        "    result = dqnkit.train_seeds(config, 2, workers=1)\n"
        "    loaded = {'tensorflow', 'tf_agents'} & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
        "    print(json.dumps([each.as_dict() for each in result.seeds]))\n"
    )
    Path("script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    for document in json.loads(done.stdout):
        result = SeedResult.from_dict(document)
        here = train(config.with_seed(result.seed))
        curve = tuple((each.env_steps, each.summary.mean) for each in here.evaluations)
        assert result.curve == curve
        assert result.late_iqm == here.late.summary.iqm
        assert result.final_iqm == here.final.summary.iqm


# -- Groups that are resumed


@pytest.mark.slow
@pytest.mark.real_training
def test_an_interrupted_group_is_continued_by_its_name() -> None:
    """One seed is interrupted, and one has not begun."""
    make_store()
    config = _config(
        "training.loop=host",
        "training.num_iterations=4000",
        "evaluation.eval_interval=2000",
        "evaluation.final_episodes=5",
    )
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        is_training = isinstance(event, WorkerEvent) and isinstance(event.event, Progress)
        if is_training and not any(isinstance(each, WorkerEvent) for each in events):
            os.kill(os.getpid(), signal.SIGINT)
        if is_training or isinstance(event, SeedsStarted):
            events.append(event)

    with pytest.raises(InterruptedRun, match=r"dqnkit train --resume seeded-2-seeds-\w+` conti"):
        train_seeds(config, 2, workers=1, listener=interrupt)
    parent, children = _runs()
    assert (parent.info.status, len(children)) == ("KILLED", 1)
    (started,) = [event for event in events if isinstance(event, SeedsStarted)]
    result = resume_seeds(started.run_name, workers=2)
    assert result is not None
    assert [each.seed for each in result.seeds] == [0, 1]
    parent, children = _runs()
    assert parent.info.run_id == result.run_id
    assert (parent.info.status, len(children)) == ("FINISHED", 2)
    assert {run.info.status for run in children} == {"FINISHED"}
    resumed = [run for run in children if "dqnkit.resumed_at" in run.data.tags]
    assert len(resumed) == 1


def test_a_group_whose_seeds_are_trained_is_not_resumed() -> None:
    result = train_seeds(_config(), 2, workers=1)
    with pytest.raises(ArgumentError, match="all 2 seeds of the group are trained"):
        resume_seeds(result.run_name)
    with pytest.raises(ArgumentError, match="all 2 seeds"):
        resume_seeds(result.run_id or "")


@pytest.mark.parametrize("reference", ["nothing", "latest", "0" * 32, "'\""])
def test_other_references_are_no_groups(reference: str) -> None:
    train_seeds(_config(), 1, workers=1)
    assert resume_seeds(reference) is None


def test_an_environment_that_changes_the_folder_does_not_move_the_record() -> None:
    folder = Path.cwd()
    Path("map.txt").touch()
    kwargs = "env.kwargs={oddity: changes folder, reads: map.txt}"
    moving = ("env.id=tests.odd:Odd-v0", kwargs)
    result = train_seeds(_config(*moving), 2, workers=1, tracking_uri="here")
    assert Path.cwd() == folder
    assert (folder / "here" / "mlflow.db").is_file()
    assert result.problems == []


@pytest.mark.slow
@pytest.mark.real_training
@pytest.mark.parametrize("oddity", ["sleeps", "constructor hangs"])
def test_a_group_whose_environments_hang_is_interrupted_within_ten_seconds(oddity: str) -> None:
    make_store()
    hanging = _config("env.id=tests.odd:Odd-v0", f"env.kwargs={{oddity: {oddity}}}")
    signalled: list[float] = []

    def interrupt() -> None:
        while not Path("hanging").exists():
            time.sleep(0.05)
        signalled.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(InterruptedRun, match=r"after 0 of 2 seeds; .*--resume") as caught:
        train_seeds(hanging, 2, workers=2)
    assert time.monotonic() - signalled[0] < 12  # with the closing of the records
    assert "died" not in str(caught.value)
    parent, children = _runs()
    assert {run.info.status for run in [parent, *children]} == {"KILLED"}
