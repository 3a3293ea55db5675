"""The commands that messages print do what they say, as they are printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dqnkit.errors import ConfigError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.runs.sync import sync
from dqnkit.tracking import mlflow_tracker
from dqnkit.tracking.client import connect, make_experiment
from dqnkit.tracking.editor import MlflowRunEditor
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.names import RunKind, Tag
from dqnkit.tracking.references import find_policy
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.tracker import RunHeader
from tests.runs import CARTPOLE, LEAN, record, save_policy


def _run_printed(message: str) -> None:
    (command,) = re.findall(r"`(.*?)`", message)
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize("folder", ["mlruns", "a store"])
def test_a_deleted_run_is_restored(folder: str) -> None:
    run_id = record(tracking_uri=folder)
    store = RunStore(locate_store(folder))
    store.client.delete_run(run_id)
    with pytest.raises(ConfigError, match="was deleted in MLflow") as caught:
        store.run(run_id)
    _run_printed(str(caught.value))
    assert store.run(run_id) is not None


def test_a_deleted_experiment_is_restored() -> None:
    record()
    location = locate_store()
    client = connect(location)
    client.delete_experiment(client.get_experiment_by_name("cartpole").experiment_id)
    with pytest.raises(TrackingError, match="was deleted in MLflow") as caught:
        make_experiment(client, location, "cartpole")
    _run_printed(str(caught.value))
    assert make_experiment(client, location, "cartpole")


def test_a_policy_that_waits_for_its_store_is_neither_registered_nor_called_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    def refuse(*_: object) -> None:
        raise OSError("413 Client Error: Request Entity Too Large")

    location = locate_store()
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", refuse)
        patched.setattr(mlflow_tracker, "_PATIENCE_SECONDS", 0.5)
        tracker = MlflowTracker(location.make())
        kind = {Tag.KIND: RunKind.TRAINING}
        tracker.start(RunHeader("cartpole", "a-run", {}, kind))
        tracker.add_policy(save_policy(CARTPOLE, LEAN, tmp_path))
        (problem,) = tracker.finish(RunStatus.FINISHED)
    assert "client_max_body_size" in problem
    editor = MlflowRunEditor(location, "cartpole")
    assert editor.register(tracker.run_id or "", "a-model", "champion", {}) is None
    assert "is not in the store yet: `dqnkit sync` sends" in editor.problems[0]
    store = RunStore(location)
    assert store.runs()[0].status == "FINISHED"
    with pytest.raises(TrackingError, match=r"waits in .*: `dqnkit sync` sends it"):
        find_policy(store, "a-run", tmp_path / "scratch")
    assert sync().left == 0
    made = editor.register(tracker.run_id or "", "a-model", "champion", {})
    assert made is not None
    assert (made.version, made.has_alias) == ("1", True)
    assert find_policy(RunStore(location), "a-run", tmp_path / "scratch").run is not None
