from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dqnkit.errors import ConfigError
from dqnkit.runs.checkpoints import Checkpoint, CheckpointFolder
from dqnkit.runs.sync import SyncResult, sync
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.outbox import MetricPoint, Outbox, OutboxHeader
from tests.dqnkit.runs.test_checkpoints import CHECKPOINT
from tests.processes import client, runs
from tests.runs import make_store

HEADER = OutboxHeader(
    store="",
    experiment="an-experiment",
    run_name="a-run",
    params={"agent.gamma": "0.9"},
    tags={"dqnkit.process": "here/b/n/1/1"},
    started=1_000,
)


@pytest.fixture(autouse=True)
def _store() -> None:
    make_store()


def _outbox(**changes: Any) -> Outbox:
    """Return the outbox of a run that the store does not have yet."""
    location = locate_store()
    header = replace(HEADER, **{"store": location.name, **changes})
    outbox = Outbox.create(location.home, header)
    outbox.add_points([MetricPoint("m", 1.0, 2_000, 3)])
    return outbox


def test_a_run_that_the_store_never_saw_is_created_and_ended() -> None:
    outbox = _outbox()
    outbox.set_final_state(description="**text**", status="FINISHED", ended=5_000)
    outbox.close()
    result = sync()
    (synced,) = result.runs
    assert (synced.run_name, synced.experiment) == ("a-run", "an-experiment")
    assert synced.sent
    assert synced.what == "the run itself, 1 metric points, its final status"
    assert (result.left, result.store) == (0, locate_store().name)
    (run,) = runs()
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1_000, 5_000)
    assert run.data.params == {"agent.gamma": "0.9"}
    assert run.data.metrics == {"m": 1.0}
    assert run.data.tags["mlflow.note.content"] == "**text**"
    assert not outbox.folder.exists()
    assert sync().runs == ()


def test_a_run_in_training_is_left_alone() -> None:
    outbox = _outbox()
    (synced,) = sync().runs
    assert not synced.sent
    assert synced.why == "it is in training"
    assert runs() == []
    outbox.close()


def test_a_killed_run_is_ended_and_gets_its_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dqnkit.processes.identity.is_dead", lambda _: True)
    outbox = _outbox()
    CheckpointFolder(outbox.folder / "checkpoints").add(CHECKPOINT)
    outbox.close()
    (synced,) = sync().runs
    assert synced.what == "the run itself, 1 metric points, files"
    (run,) = runs()
    assert run.info.status == "KILLED"
    assert "was killed" in run.data.tags["mlflow.note.content"]
    path = client().download_artifacts(run.info.run_id, "checkpoints/last.npz", ".")
    assert Checkpoint.load(Path(path)).iteration == CHECKPOINT.iteration


def test_an_ended_run_gets_no_checkpoint() -> None:
    """The last checkpoint is among the artifacts, and may be newer than those in the outbox."""
    outbox = _outbox()
    CheckpointFolder(outbox.folder / "checkpoints").add(CHECKPOINT)
    outbox.set_final_state(status="FAILED", ended=5_000)
    outbox.close()
    assert sync().left == 0
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert client().list_artifacts(run.info.run_id) == []


def test_one_run_that_cannot_be_sent_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    for name in ("first", "second"):
        outbox = _outbox(run_name=name)
        outbox.set_final_state(status="FINISHED", ended=5_000)
        outbox.close()
    create_run = MlflowClient.create_run

    def refuse_first(self: Any, experiment: str, began: int, tags: Any, name: str) -> Any:
        if name == "first":
            raise ConnectionError("away")
        return create_run(self, experiment, began, tags, name)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_run", refuse_first)
        result = sync()
    by_name = {run.run_name: run for run in result.runs}
    assert result.left == 1
    assert by_name["second"].sent
    assert "away" in by_name["first"].why
    assert by_name["first"].what == "the run itself, 1 metric points, its final status"
    assert sync().left == 0
    assert {run.info.run_name for run in runs()} == {"first", "second"}


def test_a_folder_that_cannot_be_read_is_reported() -> None:
    outbox = _outbox()
    outbox.close()
    (outbox.folder / "run.json").write_text('{"store": 1', encoding="utf-8")
    (synced,) = sync().runs
    assert not synced.sent
    assert synced.run_name == outbox.folder.name
    assert "cannot be read" in synced.why
    assert "remove the folder" in synced.why


def test_a_run_of_another_store_is_left_alone() -> None:
    outbox = _outbox(store="http://127.0.0.1:9")
    outbox.close()
    (synced,) = sync().runs
    assert (synced.sent, synced.what) == (False, "the whole run")
    assert "http://127.0.0.1:9: choose that with `tracking_uri`" in synced.why
    assert runs() == []


def test_the_result_is_a_json_document() -> None:
    outbox = _outbox(store="http://127.0.0.1:9")
    outbox.close()
    document = json.loads(json.dumps(sync().as_dict()))
    assert (document["store"], document["left"]) == (locate_store().name, 1)
    assert document["runs"][0]["folder"] == str(outbox.folder)
    assert SyncResult("a-store", ()).as_dict() == {"store": "a-store", "left": 0, "runs": []}


def test_a_store_that_cannot_be_written_is_refused() -> None:
    Path("file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        sync("file")
    with pytest.raises(ConfigError, match="there is no store to read"):
        sync(None)
