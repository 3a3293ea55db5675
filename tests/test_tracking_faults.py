"""Real runs whose store goes away, is slow, fails, is locked or full; every point is counted."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.errors import TrackingError
from dqnkit.tracking.editor import make_run_editor
from dqnkit.tracking.location import AUTO
from dqnkit.tracking.names import CHAMPION
from tests.processes import Training, client, points, runs
from tests.servers import MlflowServer, Proxy

pytestmark = pytest.mark.slow

CONFIGURATION = """
network: {fc_layer_params: [32]}
training: {num_iterations: 600_000, log_interval: 600, checkpoint_interval: 60_000}
evaluation: {eval_interval: 60_000, num_eval_episodes: 4}
"""


@pytest.fixture(autouse=True)
def _quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    Path("long.yaml").write_text(CONFIGURATION, encoding="utf-8")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server")
    yield server
    server.stop()


def _assert_complete(uri: str = AUTO) -> None:
    """Assert that the store has one finished run, with every point once."""
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    found = points(run, uri)
    iterations = int(run.data.params["training.num_iterations"])
    steps = [100 + iteration for iteration in range(600, iterations + 1, 600)]
    for key in ("train/loss", "train/epsilon", "train/episodes", "train/steps_per_second"):
        assert [step for step, _ in found[key]] == steps, key
    evaluated = [100 + iteration for iteration in range(0, iterations + 1, 60_000)]
    assert [step for step, _ in found["eval/return_mean"]] == evaluated
    assert len(found["final/return_iqm"]) == 1


def _artifacts(uri: str = AUTO) -> set[str]:
    (run,) = runs(uri)
    return {each.path for each in client(uri).list_artifacts(run.info.run_id)}


def test_a_server_that_stops_and_comes_back_receives_every_point_once(
    server: MlflowServer, tally: Callable[..., None]
) -> None:
    server.start()
    longer = ("--set", "training.num_iterations=3_000_000")
    training = Training("train", "long.yaml", "--tracking-uri", server.uri, *longer)
    training.wait_for("compiled in")
    for _ in range(2):
        assert not training.has_ended(1.5)
        server.stop()
        tally("faults of tracking")
        assert not training.has_ended(1.0)
        server.start()
    assert training.ended() == 0, training.output
    assert "warning" not in training.output
    _assert_complete(server.uri)
    assert {"config.yaml", "policy", "checkpoints", "evaluation.json"} <= _artifacts(server.uri)
    assert not list(Path("mlruns/live").iterdir())


def test_sync_sends_what_a_server_that_stays_away_did_not_receive(
    server: MlflowServer, tally: Callable[..., None]
) -> None:
    server.start()
    training = Training("train", "long.yaml", "--tracking-uri", server.uri)
    training.wait_for("compiled in")
    assert not training.has_ended(1.5)
    server.stop()
    tally("faults of tracking")
    assert training.ended() == 0, training.output
    assert f"dqnkit sync --tracking-uri {server.uri}` sends them" in training.output
    early = Training("sync", "--tracking-uri", server.uri)
    assert early.ended() == 1
    assert "Is it running?" in early.output
    server.start()
    late = Training("sync", "--tracking-uri", server.uri)
    assert late.ended() == 0, late.output
    _assert_complete(server.uri)
    assert {"config.yaml", "policy", "checkpoints", "evaluation.json"} <= _artifacts(server.uri)
    assert "nothing is pending" in _output_of("sync", "--tracking-uri", server.uri)


def test_a_server_may_start_after_the_run(server: MlflowServer, tally: Callable[..., None]) -> None:
    training = Training("train", "long.yaml", "--tracking-uri", server.uri)
    training.wait_for("does not answer: the run is kept in")
    tally("faults of tracking")
    server.start()
    assert training.ended() == 0, training.output
    if "did not receive everything" in training.output:  # it came too late
        assert Training("sync", "--tracking-uri", server.uri).ended() == 0
    _assert_complete(server.uri)


@pytest.mark.parametrize("mode", ["slow", "500", "deaf"])
def test_a_faulty_server_receives_every_point_once(
    mode: str, server: MlflowServer, tally: Callable[..., None]
) -> None:
    """The mode `slow` exceeds the time limit of a request, so that some are sent again."""
    server.start()
    proxy = Proxy(server.port)
    proxy.delay = 6.0
    training = Training("train", "long.yaml", "--tracking-uri", proxy.uri)
    training.wait_for("compiled in")
    for _ in range(2):
        assert not training.has_ended(1.0)
        proxy.mode = mode
        assert not training.has_ended(2.5)
        proxy.mode = "pass"
    assert training.ended() == 0, training.output
    assert proxy.failed[mode] > 0
    tally("faults of tracking", proxy.failed[mode])
    if "did not receive everything" in training.output:
        assert Training("sync", "--tracking-uri", proxy.uri).ended() == 0
    _assert_complete(server.uri)
    proxy.close()


def test_sync_completes_a_run_whose_server_failed_from_first_to_last(
    server: MlflowServer, tally: Callable[..., None]
) -> None:
    """All answers are lost, including that to the request that created the run."""
    server.start()
    proxy = Proxy(server.port)
    proxy.mode = "deaf"
    training = Training("train", "long.yaml", "--tracking-uri", proxy.uri)
    assert training.ended() == 0, training.output
    assert proxy.failed["deaf"] > 0
    tally("faults of tracking", proxy.failed["deaf"])
    proxy.mode = "pass"
    assert Training("sync", "--tracking-uri", proxy.uri).ended() == 0
    _assert_complete(server.uri)
    proxy.close()


def test_a_locked_database_receives_every_point_once(tally: Callable[..., None]) -> None:
    """The lock is held for longer than the 20 seconds that SQLite waits for it."""
    training = Training("train", "long.yaml")
    training.wait_for("compiled in")
    with sqlite3.connect("mlruns/mlflow.db", timeout=30, isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        tally("faults of tracking")
        training.has_ended(25)
        database.execute("ROLLBACK")
    assert training.ended() == 0, training.output
    if "did not receive everything" in training.output:
        assert Training("sync").ended() == 0
    _assert_complete()


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Mount a file system of 24 MB and change into it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    monkeypatch.chdir(disk)
    yield disk
    monkeypatch.chdir(tmp_path)
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(file: Path) -> None:
    """Fill the rest of a file system."""
    with file.open("wb", buffering=0) as sink:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    sink.write(os.urandom(size))
            except OSError:
                continue


def _on_a_disk_that_fills(disk: Path, tally: Callable[..., None]) -> Training:
    """Start a run on a disk, and fill the disk once it trains."""
    (disk / "long.yaml").write_text(CONFIGURATION, encoding="utf-8")
    training = Training("train", "long.yaml")
    training.wait_for("compiled in")
    assert not training.has_ended(1.0)
    _fill(disk / "filler")
    tally("faults of tracking")
    return training


def test_a_disk_that_is_full_for_a_while_loses_nothing(
    small_disk: Path, tally: Callable[..., None]
) -> None:
    training = _on_a_disk_that_fills(small_disk, tally)
    assert not training.has_ended(3.0)
    (small_disk / "filler").unlink()
    assert training.ended() == 0, training.output
    _assert_complete()


def test_a_disk_that_stays_full_is_reported_and_training_finishes(
    small_disk: Path, tally: Callable[..., None]
) -> None:
    training = _on_a_disk_that_fills(small_disk, tally)
    assert training.ended() == 0, training.output
    assert "did not receive everything" in training.output
    assert "No space left on device" in training.output
    assert "Traceback" not in training.output


def test_eight_runs_into_one_store_that_does_not_exist_yet(tally: Callable[..., None]) -> None:
    trainings = [Training("train", "long.yaml", "--seed", str(seed)) for seed in range(8)]
    for training in trainings:
        assert training.ended(600) == 0, training.output
        assert "locked" not in training.output
        assert "warning" not in training.output
    tally("processes on one store", len(trainings))
    found = runs()
    assert {run.data.params["training.seed"] for run in found} == {str(seed) for seed in range(8)}
    steps = [100 + iteration for iteration in range(600, 600_001, 600)]
    for run in found:
        assert run.info.status == "FINISHED"
        assert [step for step, _ in points(run)["train/loss"]] == steps
    assert not list(Path("mlruns/live").iterdir())


def _output_of(*arguments: str) -> str:
    command = Training(*arguments)
    command.ended()
    return command.output


def test_a_server_without_model_aliases_is_refused(server: MlflowServer) -> None:
    server.start()
    proxy = Proxy(server.port)
    editor = make_run_editor(loading.load("tutorial"), proxy.uri)
    editor.check("tutorial", CHAMPION)
    proxy.mode = "old"
    with pytest.raises(TrackingError, match=r"upgrade its MLflow to 2\.3 or later"):
        editor.check("tutorial", CHAMPION)
    proxy.close()
