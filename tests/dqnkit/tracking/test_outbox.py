from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dqnkit.errors import BusyRunError, TrackingError
from dqnkit.processes import identity
from dqnkit.tracking import outbox as outboxes
from dqnkit.tracking.client import end_stale_runs, experiment_names
from dqnkit.tracking.location import StoreLocation, locate_store
from dqnkit.tracking.outbox import (
    Delivery,
    MetricPoint,
    Outbox,
    OutboxHeader,
    belongs_to,
    count_undelivered,
    folders_of_run,
    is_held,
    outbox_folders,
    read_header,
    stores_with_undelivered,
)
from tests.processes import client, points, runs
from tests.runs import make_store

HOME = Path("home")
HEADER = OutboxHeader(
    store="sqlite:////somewhere/mlflow.db",
    experiment="an-experiment",
    run_name="a-run",
    params={"agent.gamma": "0.9"},
    tags={"tag": "ünïcode"},
    started=1_000,
)


def _points(*steps: int) -> list[MetricPoint]:
    return [MetricPoint("m", step / 2, 10 * step, step) for step in steps]


def _reopened(outbox: Outbox) -> Outbox:
    """Return the outbox as another process opens it after the first has died."""
    outbox.close()
    return Outbox.open(outbox.folder)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox.create(HOME, HEADER)


# -- The folder


def test_an_outbox_is_read_as_it_was_left(outbox: Outbox) -> None:
    outbox.add_points(_points(1, 2, 3))
    outbox.set_final_state(description="text")
    outbox.set_final_state(status="FAILED", ended=7)
    outbox.run_requested()
    outbox.run_created("an-id")
    again = _reopened(outbox)
    assert again.header == replace(HEADER, asked_for=True, run_id="an-id")
    assert again.run_id == "an-id"
    assert again.pending_points(10) == _points(1, 2, 3)
    assert again.pending_points(2) == _points(1, 2)
    assert again.pending_final_state == {"description": "text", "status": "FAILED", "ended": 7}
    assert again.write_error is None


def test_a_header_of_an_earlier_version_is_read(outbox: Outbox) -> None:
    """The keys are those of dqnkit 0.1, and keys that follow later are ignored."""
    header = json.loads((outbox.folder / "run.json").read_text(encoding="utf-8"))
    assert header == {
        "store": "sqlite:////somewhere/mlflow.db",
        "experiment": "an-experiment",
        "run_name": "a-run",
        "params": {"agent.gamma": "0.9"},
        "tags": {"tag": "ünïcode"},
        "started": 1_000,
        "run_id": None,
        "asked_for": False,
        "ended": False,
    }
    (outbox.folder / "run.json").write_text(json.dumps(header | {"later": 1}), encoding="utf-8")
    assert read_header(outbox.folder) == HEADER


def test_delivered_points_are_not_read_again(outbox: Outbox) -> None:
    outbox.add_points(_points(1, 2))
    outbox.add_points(_points(3))
    outbox.points_delivered(0)
    outbox.points_delivered(2)
    assert outbox.pending_points(10) == _points(3)
    again = _reopened(outbox)
    assert again.pending_points(10) == _points(3)
    assert list(again.logged_points()) == _points(1, 2, 3)
    again.add_points(_points(4))
    again.points_delivered(2)
    assert _reopened(again).pending_points(10) == []


def test_a_line_that_was_being_written_is_dropped(outbox: Outbox) -> None:
    outbox.add_points(_points(1, 2))
    file = outbox.folder / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-4])
    again = _reopened(outbox)
    assert again.pending_points(10) == _points(1)
    again.add_points(_points(3))
    assert _reopened(again).pending_points(10) == _points(1, 3)


def test_lines_that_cannot_be_read_are_left_out(outbox: Outbox) -> None:
    """A loss of power may leave anything in a file."""
    outbox.add_points(_points(1))
    with (outbox.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'\0\0\0\n["m", 1]\n{}\n\xff\n')
    outbox.add_points(_points(2))
    assert _reopened(outbox).pending_points(10) == _points(1, 2)


@pytest.mark.parametrize("sent", ["", "x", "5", "1000000"])
def test_a_position_that_cannot_be_right_sends_everything_again(outbox: Outbox, sent: str) -> None:
    outbox.add_points(_points(1, 2))
    (outbox.folder / "sent").write_text(sent, encoding="ascii")
    assert _reopened(outbox).pending_points(10) == _points(1, 2)


def test_a_full_disk_costs_the_file_and_not_the_points(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.add_points(_points(1))

    def full(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    outbox.points_delivered(1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        outbox.add_points(_points(2))
    assert outbox.write_error == "No space left on device"
    with (outbox.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'["m", 1.')  # as much as there was space for
    outbox.add_points(_points(3))
    outbox.add_points(_points(4))
    assert outbox.pending_points(10) == _points(2, 3, 4)
    # The points behind the gap are sent again, which adds nothing to the store.
    outbox.points_delivered(2)
    assert outbox.pending_points(10) == _points(4)
    again = _reopened(outbox)
    assert again.pending_points(10) == _points(3, 4)
    again.points_delivered(1)
    assert _reopened(again).pending_points(10) == []


def test_points_can_be_written_through_to_the_disk(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    outbox.sync_to_disk()
    assert not synced  # no file yet
    outbox.add_points(_points(1))
    outbox.sync_to_disk()
    assert len(synced) == 1


# -- Files


def _folder(name: str, content: str) -> Path:
    folder = Path(name)
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text(content, encoding="utf-8")
    return folder


def test_files_wait_in_batches(outbox: Outbox) -> None:
    outbox.add_files(_folder("first", "1"))
    outbox.add_files(_folder("second", "2"), "policy")
    (outbox.folder / "files" / "7.partial").mkdir()  # left by a process that was killed
    again = _reopened(outbox)
    first, second = again.pending_files()
    assert (first / "sub/a.txt").read_text(encoding="utf-8") == "1"
    assert (second / "policy/sub/a.txt").read_text(encoding="utf-8") == "2"
    again.add_files(Path("first"))
    assert [path.name for path in again.pending_files()] == ["0", "1", "2"]


def test_batches_are_in_the_order_of_their_numbers(outbox: Outbox) -> None:
    source = _folder("files", "x")
    for _ in range(11):
        outbox.add_files(source)
    assert [path.name for path in outbox.pending_files()][-2:] == ["9", "10"]


def test_a_full_disk_leaves_no_partial_batch(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path, **_: object) -> None:
        target.mkdir(parents=True)
        raise OSError(28, "No space left on device")

    source = _folder("files", "x")
    with monkeypatch.context() as patched:
        patched.setattr("shutil.copytree", full)
        with pytest.raises(OSError, match="No space"):
            outbox.add_files(source)
    assert not list((outbox.folder / "files").iterdir())
    outbox.add_files(source)
    assert [path.name for path in outbox.pending_files()] == ["0"]


# -- Description and status


def test_a_final_state_that_changes_while_it_is_delivered_stays(outbox: Outbox) -> None:
    outbox.set_final_state(description="first")
    sent = outbox.pending_final_state
    outbox.set_final_state(description="second", status="FINISHED", ended=1)
    outbox.final_state_delivered(sent)
    assert outbox.pending_final_state == {"description": "second", "status": "FINISHED", "ended": 1}
    outbox.final_state_delivered(outbox.pending_final_state)
    assert _reopened(outbox).pending_final_state == {}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda _: None, "the run itself"),
        (lambda outbox: outbox.run_created("id"), ""),
        (lambda outbox: outbox.add_points(_points(*range(1_500))), "1,500 metric points"),
        (lambda outbox: outbox.set_final_state(description="x"), "its description"),
        (
            lambda outbox: outbox.set_final_state(description="x", status="FAILED"),
            "its final status",
        ),
        (lambda outbox: outbox.add_files(_folder("files", "x")), "files"),
    ],
)
def test_what_is_pending_is_described(outbox: Outbox, prepare: Any, words: str) -> None:
    prepare(outbox)
    assert outbox.describe_pending().endswith(words)
    assert outbox.is_delivered == (words == "")


# -- Locks


def test_one_process_at_a_time_holds_an_outbox(outbox: Outbox) -> None:
    assert is_held(outbox.folder)
    with pytest.raises(BusyRunError, match="in use by another process"):
        Outbox.open(outbox.folder)
    outbox.close()
    assert not is_held(outbox.folder)
    Outbox.open(outbox.folder).close()


def test_the_end_of_a_process_releases_its_outbox() -> None:
    code = f"""
from pathlib import Path
from dqnkit.tracking.outbox import Outbox, OutboxHeader, MetricPoint
outbox = Outbox.create(Path({str(HOME)!r}), OutboxHeader(
    store="s", experiment="e", run_name="r", params={{}}, tags={{}}, started=0))
outbox.add_points([MetricPoint("m", 1.0, 2, 3)])
import os
print(outbox.folder, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip())
    assert not is_held(folder)
    assert Outbox.open(folder).pending_points(9) == [MetricPoint("m", 1.0, 2, 3)]


def test_an_exclusive_outbox_of_a_run_exists_once() -> None:
    header = replace(HEADER, run_id="../../an-id")
    first = Outbox.create(HOME, header, exclusive=True)
    assert first.folder.parent == HOME / "live"  # whatever the id is
    with pytest.raises(BusyRunError):
        Outbox.create(HOME, header, exclusive=True)
    shared = [Outbox.create(HOME, header) for _ in range(2)]
    assert len({each.folder for each in (first, *shared)}) == 3
    assert sorted(folders_of_run(HOME, "../../an-id")) == outbox_folders(HOME)


def test_a_removed_outbox_leaves_nothing(outbox: Outbox) -> None:
    outbox.add_points(_points(1))
    outbox.remove()
    assert not list((HOME / "live").iterdir())
    assert outbox_folders(HOME) == []


def test_a_folder_that_cannot_be_used_is_an_error(outbox: Outbox) -> None:
    outbox.close()
    (outbox.folder / "run.json").write_text("{", encoding="utf-8")
    for read in (Outbox.open, read_header):
        with pytest.raises(TrackingError, match=f"{outbox.folder} cannot be read"):
            read(outbox.folder)
    assert list(folders_of_run(HOME, "an-id")) == []
    Path("file").touch()
    with pytest.raises(TrackingError, match="free some space, or run in another folder"):
        Outbox.create(Path("file"), HEADER)


# -- Stores


@pytest.mark.parametrize(
    ("uri", "belongs"),
    [
        ("sqlite:////somewhere/mlflow.db", True),
        ("sqlite:////moved/mlflow.db", True),  # an embedded store moves with its runs
        ("http://host", False),
    ],
)
def test_runs_belong_to_their_store(uri: str, belongs: bool) -> None:
    assert belongs_to(HEADER, locate_store(uri)) == belongs
    assert belongs_to(replace(HEADER, store="http://host"), locate_store("http://host"))


def test_undelivered_runs_are_counted_by_store() -> None:
    location = locate_store()
    for store in (location.name, location.name, "http://one", "http://two"):
        Outbox.create(location.home, replace(HEADER, store=store)).close()
    held = Outbox.create(location.home, replace(HEADER, store=location.name))
    broken = Outbox.create(location.home, HEADER)
    broken.close()
    (broken.folder / "run.json").write_text("{", encoding="utf-8")
    assert count_undelivered(location) == 2
    assert stores_with_undelivered(location) == ["http://one", "http://two"]
    assert count_undelivered(locate_store("http://one")) == 1
    held.close()
    assert count_undelivered(location) == 3


# -- Delivery


@pytest.fixture
def location() -> StoreLocation:
    make_store()
    return locate_store()


def _deliver(location: StoreLocation, outbox: Outbox) -> int:
    delivery, count = Delivery(location, outbox), 0
    while delivery.deliver_next():
        count += 1
    return count


def test_everything_is_delivered_once(
    location: StoreLocation, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "_POINTS_PER_CALL", 2)
    outbox.add_points(_points(1, 2, 3))
    outbox.add_files(_folder("files", "x"))
    outbox.set_final_state(description="**text**", status="FAILED", ended=9_000)
    assert _deliver(location, outbox) == 4  # points, points, files, final state
    assert outbox.is_delivered
    assert outbox.header.ended
    assert _deliver(location, outbox) == 0
    (run,) = runs()
    assert (run.info.run_name, run.info.status) == ("a-run", "FAILED")
    assert (run.info.start_time, run.info.end_time) == (1_000, 9_000)
    assert run.data.tags["mlflow.note.content"] == "**text**"
    assert run.data.tags["tag"] == "ünïcode"
    assert run.data.params == {"agent.gamma": "0.9"}
    assert points(run) == {"m": [(1, 0.5), (2, 1.0), (3, 1.5)]}
    assert [each.path for each in client().list_artifacts(run.info.run_id)] == ["sub"]


@pytest.mark.parametrize("method", ["create_run", "log_batch", "log_artifacts", "set_terminated"])
def test_a_lost_answer_doubles_nothing(
    location: StoreLocation, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The store has done what it was asked for, and the connection is lost before its answer."""
    from mlflow import MlflowClient

    outbox.add_points(_points(1, 2))
    outbox.add_files(_folder("files", "x"))
    outbox.set_final_state(status="FINISHED", ended=9_000)
    real = getattr(MlflowClient, method)

    def lost(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        raise ConnectionError("lost")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, method, lost)
        with pytest.raises(ConnectionError):
            _deliver(location, outbox)
    again = _reopened(outbox)
    _deliver(location, again)
    assert again.is_delivered
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert points(run) == {"m": [(1, 0.5), (2, 1.0)]}
    assert run.data.params == {"agent.gamma": "0.9"}


def test_files_that_the_store_does_not_take_do_not_hold_back_the_status(
    location: StoreLocation, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    outbox.add_points(_points(1, 2))
    outbox.add_files(_folder("files", "x"))
    outbox.set_final_state(description="done", status="FINISHED", ended=9_000)

    def refused(*_: Any) -> None:
        raise OSError("413 Client Error: Request Entity Too Large")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", refused)
        for _ in range(2):  # however often it is tried
            with pytest.raises(OSError, match="413"):
                _deliver(location, outbox)
    (run,) = runs()
    assert (run.info.status, run.info.end_time) == ("FINISHED", 9_000)
    assert run.data.tags["mlflow.note.content"] == "done"
    assert points(run) == {"m": [(1, 0.5), (2, 1.0)]}
    assert outbox.describe_pending() == "files"
    again = _reopened(outbox)
    _deliver(location, again)
    assert again.is_delivered
    assert [each.path for each in client().list_artifacts(run.info.run_id)] == ["sub"]


def test_a_status_that_comes_late_removes_the_note_of_a_killed_process(
    location: StoreLocation, outbox: Outbox
) -> None:
    delivery = Delivery(location, outbox)
    delivery.open()
    run_id = outbox.run_id
    dead = "/".join([*identity.identity().split("/")[:3], "1", "0"])
    client().set_tag(run_id, "dqnkit.process", dead)
    end_stale_runs(client(), experiment_names(client()))
    (run,) = runs()
    assert run.info.status == "KILLED"
    assert run.data.tags["mlflow.note.content"].endswith("Its process was killed.")
    outbox.set_final_state(status="FINISHED", ended=9_000)
    while delivery.deliver_next():
        pass
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert "killed" not in run.data.tags["mlflow.note.content"]


def test_a_run_that_was_created_for_a_failed_start_is_ended(
    location: StoreLocation, outbox: Outbox
) -> None:
    delivery = Delivery(location, outbox)
    delivery.abandon()  # nothing was created
    delivery.open()
    assert runs()[0].info.status == "RUNNING"
    delivery.abandon()
    assert runs()[0].info.status == "FAILED"
    delivery.client = SimpleNamespace()  # a store that is gone
    delivery.abandon()
