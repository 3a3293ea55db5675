"""The outbox of a run: what its store has not received yet, on disk, and its delivery.

Metric points, files, description and status go into the outbox first. `Delivery` sends them to
the store, each once. The outbox outlives its process, so that what is pending can be delivered by
another one (`dqnkit.runs.sync`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from dqnkit._system.files import file_lock, write_text_atomically
from dqnkit.errors import BusyRunError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.tracking.client import (
    connect,
    end_stale_runs,
    experiment_names,
    make_experiment,
    quoted,
    remove_killed_note,
)
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.names import Tag

FOLDER = "live"
"""Folder beside a store that holds an outbox for each run under way or not fully delivered."""
_TOKENS = uuid.UUID("5fa1f3c6-6f5e-4b0e-9d5b-1d2b7f5f6a10")
"""Namespace of the tokens that are derived from ids of runs."""
_POINTS_PER_CALL = 1_000
"""Metric points that MLflow accepts in one call."""


class MetricPoint(NamedTuple):
    """One value of a metric.

    A store keeps one point for each (key, step, timestamp, value): sending it again adds nothing.
    """

    key: str
    value: float
    timestamp: int
    """Milliseconds since the epoch."""
    step: int


@dataclass(frozen=True, kw_only=True)
class OutboxHeader:
    """Everything that is needed to create the run."""

    store: str
    """Name of the store, without passwords."""
    experiment: str
    run_name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    started: int
    """Milliseconds since the epoch."""
    run_id: str | None = None
    """Id of the run, once the store has created it."""
    asked_for: bool = False
    """True once the store was asked to create the run; its answer may have been lost."""
    ended: bool = False
    """True once the store knows the run's final status."""


_HEADER = TypeAdapter(OutboxHeader)


class Outbox:
    """Metric points, files, description and status of one run, kept until they are delivered.

    Points are in memory and in a file. If the disk is full, the file is incomplete, but points are
    still delivered and are lost only with the process. One process at a time holds an outbox.
    """

    def __init__(self, folder: Path, header: OutboxHeader, held: contextlib.ExitStack) -> None:
        self.folder = folder
        self.header = header
        self.write_error: str | None = None
        """Reason why the file of points is incomplete; None if it is complete."""
        self._held = held
        self._lock = threading.Lock()
        self._pending_points: list[tuple[MetricPoint, int]] = []
        """Each point with the size of the file up to and including it."""
        self._size = 0
        self._final_state: dict[str, Any] = {}
        self._next_batch = 0

    @classmethod
    def create(cls, home: Path, header: OutboxHeader, *, exclusive: bool = False) -> Outbox:
        """Create an outbox.

        Args:
          home: Folder of the store on this machine.
          header: Header of the run.
          exclusive: True if no other process of this machine may write the run, which has an id.

        Raises:
          BusyRunError: If another process does.
          TrackingError: If the folder cannot be written.
        """
        # Derived or random: an id that a server or a user gives may be a path to elsewhere.
        token = uuid.uuid5(_TOKENS, header.run_id or "") if exclusive else uuid.uuid4()
        folder = home / FOLDER / token.hex
        try:
            folder.mkdir(parents=True, exist_ok=exclusive)
            outbox = cls(folder, header, _hold(folder))
            outbox._write_header()
        except OSError as error:
            raise TrackingError(
                f"{folder} cannot be written: {error.strerror}; it keeps what the store has not "
                "received yet: free some space, or run in another folder"
            ) from error
        return outbox

    @classmethod
    def open(cls, folder: Path) -> Outbox:
        """Open an outbox that another process has left.

        Raises:
          BusyRunError: If a process holds it.
          TrackingError: If it cannot be read.
        """
        try:
            outbox = cls(folder, _load_header(folder), _hold(folder))
            outbox._load_points()
            outbox._final_state = _load_json(folder / "pending.json") or {}
        except (OSError, ValueError, TypeError) as error:
            raise TrackingError(f"{folder} cannot be read: {error}") from error
        numbers = [int(path.name) for path in outbox.pending_files()]
        outbox._next_batch = max(numbers, default=-1) + 1
        return outbox

    @property
    def run_id(self) -> str | None:
        """Id of the run, once the store has created it."""
        return self.header.run_id

    def run_requested(self) -> None:
        """Record that the store is being asked to create the run."""
        self.header = replace(self.header, asked_for=True)
        self._write_header()

    def run_created(self, run_id: str) -> None:
        """Record the id of the run, which is running."""
        self.header = replace(self.header, run_id=run_id, ended=False)
        self._write_header()

    def run_ended(self) -> None:
        """Record that the store knows the final status."""
        self.header = replace(self.header, ended=True)
        with contextlib.suppress(OSError):  # full disk; the outbox is about to be removed
            self._write_header()

    # -- Metric points

    def add_points(self, points: Sequence[MetricPoint]) -> None:
        """Add points. A failure to write them is recorded in `write_error` and not raised."""
        lines = [json.dumps(point) + "\n" for point in points]
        with self._lock:
            for point, line in zip(points, lines, strict=True):
                self._size += len(line)
                self._pending_points.append((point, self._size))
            try:
                with self._points_file.open("a", encoding="ascii") as file:
                    # After a failure, the file may end in the middle of a line.
                    file.write("".join(["\n", *lines] if self.write_error else lines))
            except OSError as error:
                self.write_error = error.strerror or str(error)

    def pending_points(self, limit: int) -> list[MetricPoint]:
        """Return the oldest points that are not delivered."""
        with self._lock:
            return [point for point, _ in self._pending_points[:limit]]

    def points_delivered(self, count: int) -> None:
        """Record that the oldest `count` points are delivered."""
        with self._lock:
            if not count:
                return
            size = self._pending_points[count - 1][1]
            del self._pending_points[:count]
        if self.write_error is not None:  # the file is shorter than `size` counts
            return
        with contextlib.suppress(OSError):  # then they are sent again, which adds nothing
            write_text_atomically(self.folder / "sent", str(size))

    def logged_points(self) -> Iterator[MetricPoint]:
        """Yield all points in the file, delivered ones included."""
        with contextlib.suppress(FileNotFoundError):
            yield from _parse_points(self._points_file.read_bytes())

    def sync_to_disk(self) -> None:
        """Make the points survive a loss of power."""
        with contextlib.suppress(OSError), self._points_file.open("rb") as file:
            os.fsync(file.fileno())

    # -- Files

    def add_files(self, source: Path, below: str = "") -> None:
        """Add a copy of all files below a folder.

        Args:
          source: The folder.
          below: Path among the run's artifacts at which the files go.

        Raises:
          OSError: If there is no space for them.
        """
        files = self.folder / "files"
        partial = files / f"{self._next_batch}.partial"
        try:
            shutil.copytree(source, partial / below, dirs_exist_ok=True)
            partial.rename(files / str(self._next_batch))
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._next_batch += 1

    def pending_files(self) -> list[Path]:
        """Return the folders of files that are not delivered, oldest first."""
        files = self.folder / "files"
        found = files.iterdir() if files.is_dir() else ()
        return sorted((path for path in found if path.name.isdigit()), key=lambda p: int(p.name))

    # -- Description and status

    def set_final_state(self, **values: Any) -> None:
        """Set values that are delivered last: `description`, or `status` and `ended`."""
        with self._lock:
            self._final_state = self._final_state | values
            self._write_final_state()

    @property
    def pending_final_state(self) -> Mapping[str, Any]:
        """Values of `set_final_state` that are not delivered."""
        with self._lock:
            return dict(self._final_state)

    def final_state_delivered(self, values: Mapping[str, Any]) -> None:
        """Record that these values are delivered, unless they have changed since."""
        with self._lock:
            items = self._final_state.items()
            self._final_state = {key: value for key, value in items if values.get(key) != value}
            self._write_final_state()

    # -- The whole outbox

    @property
    def is_delivered(self) -> bool:
        """True if nothing is pending."""
        return (
            self.run_id is not None
            and not self._pending_points
            and not self.pending_files()
            and not self._final_state
        )

    def describe_pending(self) -> str:
        """Return what is pending, in words."""
        pending = ["the run itself"] if self.run_id is None else []
        if self._pending_points:
            pending.append(f"{len(self._pending_points):,} metric points")
        if self.pending_files():
            pending.append("files")
        if self._final_state:
            has_status = "status" in self._final_state
            pending.append("its final status" if has_status else "its description")
        return ", ".join(pending)

    def remove(self) -> None:
        """Remove a delivered outbox from the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the outbox to other processes."""
        self._held.close()

    @property
    def _points_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _load_points(self) -> None:
        if not self._points_file.exists():
            return
        content = self._points_file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a line that was being written
            os.truncate(self._points_file, whole)
        try:
            begin = int((self.folder / "sent").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            begin = 0
        if begin > whole or (begin and content[begin - 1 : begin] != b"\n"):
            begin = 0  # a full disk has left points out of the file
        self._size = whole
        self._pending_points = [(point, whole) for point in _parse_points(content[begin:whole])]

    def _write_header(self) -> None:
        write_text_atomically(self.folder / "run.json", _HEADER.dump_json(self.header).decode())

    def _write_final_state(self) -> None:
        with contextlib.suppress(OSError):  # full disk: delivered from memory all the same
            write_text_atomically(self.folder / "pending.json", json.dumps(self._final_state))


class Delivery:
    """The delivery of an outbox. A step may be repeated after a failure: nothing arrives twice."""

    def __init__(self, store: StoreLocation, outbox: Outbox) -> None:
        self.experiment_id = ""
        self.client: Any = None
        """MLflow's client, once connected."""
        self._store = store
        self._outbox = outbox
        self._is_open = False
        self._opening = threading.Lock()
        self._created: str | None = None

    def connect(self) -> Any:
        """Return MLflow's client."""
        if self.client is None:
            self.client = connect(self._store)
        return self.client

    def open(self) -> None:
        """Connect, and create the run if the store does not have it."""
        with self._opening:
            if self._is_open:
                return
            self.connect()
            header = self._outbox.header
            self.experiment_id = make_experiment(self.client, self._store, header.experiment)
            end_stale_runs(self.client, experiment_names(self.client))
            if header.run_id is None:
                self._create_run()
            self._is_open = True

    def abandon(self) -> None:
        """End a run whose record could not be opened completely."""
        if self._created is not None:
            with contextlib.suppress(Exception):  # `end_stale_runs` of the next command ends it
                self.client.set_terminated(self._created, str(RunStatus.FAILED))

    def deliver_next(self) -> bool:
        """Deliver points, files, or description and status; return False if nothing is pending."""
        self.open()
        outbox, run_id = self._outbox, self._outbox.run_id
        points = outbox.pending_points(_POINTS_PER_CALL)
        if points:
            from mlflow.entities import Metric  # already loaded by the client

            self.client.log_batch(run_id, metrics=[Metric(*point) for point in points])
            outbox.points_delivered(len(points))
            return True
        try:
            if self._deliver_files():
                return True
        except Exception:
            # A file that the store does not take must not keep a finished run from ending.
            self._deliver_final_state(outbox.pending_final_state)
            raise
        return self._deliver_final_state(outbox.pending_final_state)

    def _deliver_files(self) -> bool:
        """Deliver the oldest files; return False if none are pending."""
        batch = next(iter(self._outbox.pending_files()), None)
        if batch is None:
            return False
        self.client.log_artifacts(self._outbox.run_id, str(batch))
        shutil.rmtree(batch)
        return True

    def _deliver_final_state(self, state: Mapping[str, Any]) -> bool:
        run_id = self._outbox.run_id
        if "description" in state:
            self.client.set_tag(run_id, Tag.NOTE, state["description"])
        if "status" in state:
            self.client.set_terminated(run_id, state["status"], state["ended"])
            remove_killed_note(self.client, str(run_id))
            self._outbox.run_ended()
        self._outbox.final_state_delivered(state)
        return bool(state)

    def _create_run(self) -> None:
        from mlflow.entities import Param  # already loaded by the client

        header, token = self._outbox.header, self._outbox.folder.name
        found = []
        if header.asked_for:
            condition = f"tags.`{Tag.OUTBOX}` = {quoted(token)}"
            found = self.client.search_runs([self.experiment_id], condition, 1, 1)
        if not found:
            self._outbox.run_requested()
            tags = {**header.tags, Tag.OUTBOX: token}
            name, began = header.run_name, header.started
            found = [self.client.create_run(self.experiment_id, began, tags, name)]
        self._created = str(found[0].info.run_id)
        params = [Param(key, value) for key, value in header.params.items()]
        self.client.log_batch(self._created, params=params)
        self._outbox.run_created(self._created)


def outbox_folders(home: Path) -> list[Path]:
    """Return the folders of all outboxes beside a store."""
    return [path.parent for path in sorted((home / FOLDER).glob("*/run.json"))]


def is_held(folder: Path) -> bool:
    """Return whether a process holds an outbox."""
    try:
        _hold(folder).close()
    except BusyRunError:
        return True
    except OSError:  # read-only
        return False
    return False


def folders_of_run(home: Path, run_id: str) -> Iterator[Path]:
    """Yield the folders of a run's outboxes, whether a process holds them or has left them."""
    for folder in outbox_folders(home):
        with contextlib.suppress(OSError, ValueError, TypeError):
            if _load_header(folder).run_id == run_id:
                yield folder


def read_header(folder: Path) -> OutboxHeader:
    """Read the header of an outbox.

    Raises:
      TrackingError: If it cannot be read.
    """
    try:
        return _load_header(folder)
    except (OSError, ValueError, TypeError) as error:
        raise TrackingError(f"{folder} cannot be read: {error}") from error


def count_undelivered(store: StoreLocation) -> int:
    """Return the number of ended runs of a store that are not fully delivered."""
    return sum(
        not is_held(folder) and header is not None and belongs_to(header, store)
        for folder, header in _headers(store)
    )


def stores_with_undelivered(store: StoreLocation) -> list[str]:
    """Return the names of other stores whose runs wait in the same folder."""
    found = {
        header.store
        for folder, header in _headers(store)
        if header is not None and not is_held(folder) and not belongs_to(header, store)
    }
    return sorted(found)


def belongs_to(header: OutboxHeader, store: StoreLocation) -> bool:
    """Return whether a run belongs to a store; an embedded store moves together with its runs."""
    return header.store == store.name or (
        store.database is not None and header.store.startswith("sqlite:")
    )


def _headers(store: StoreLocation) -> Iterator[tuple[Path, OutboxHeader | None]]:
    for folder in outbox_folders(store.home):
        try:
            yield folder, read_header(folder)
        except TrackingError:
            yield folder, None


def _load_header(folder: Path) -> OutboxHeader:
    return _HEADER.validate_json((folder / "run.json").read_bytes())


def _hold(folder: Path) -> contextlib.ExitStack:
    """Lock an outbox against other processes until the stack is closed or the process ends.

    Raises:
      BusyRunError: If another process holds it.
    """
    held = contextlib.ExitStack()
    try:
        held.enter_context(file_lock(folder / "lock", blocking=False))
    except BlockingIOError as error:
        raise BusyRunError(
            f"the run in {folder} is in use by another process: wait for it, or end it"
        ) from error
    return held


def _parse_points(content: bytes) -> Iterator[MetricPoint]:
    """Yield the points that can be read: a loss of power may leave anything in the file."""
    for line in content.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            yield MetricPoint(*json.loads(line))


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
