"""What a run has told and its store may not know yet, in a folder that outlives the process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from dqnkit.errors import BusyRunError, TrackingError

FOLDER = "live"
"""Beside a store: a folder for each run that is under way, or of which something is left."""

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, here and among its artifacts."""
LAST_CHECKPOINT = "last.npz"
"""The one among the artifacts that the run goes on from."""


_SPACE = uuid.UUID("5fa1f3c6-6f5e-4b0e-9d5b-1d2b7f5f6a10")
"""Of the names that are made of runs' ids."""


class MetricPoint(NamedTuple):
    """A value of a metric."""

    key: str
    value: float
    timestamp: int
    """Milliseconds since the epoch. A store keeps one point of each (key, step, timestamp, value),
    so that sending it again adds nothing."""
    step: int


@dataclass(frozen=True, kw_only=True)
class OutboxHeader:
    """What makes a run."""

    store: str
    """Without passwords."""
    experiment: str
    run_name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    started: int
    """Milliseconds since the epoch."""
    run_id: str | None = None
    """In the store, once it is there."""
    asked_for: bool = False
    """Whether the store was asked to make it; its answer may be lost."""
    ended: bool = False
    """Whether the store knows how it ended."""


class Outbox:
    """One run's metrics, files and end, kept until its store has them.

    Points are in memory and in a file. A disk that is full costs the file alone: the points are
    sent all the same, and are lost only with the process. One process at a time holds a journal.
    """

    def __init__(self, folder: Path, header: OutboxHeader, lock: IO[str]) -> None:
        self.folder = folder
        self.header = header
        self.trouble: str | None = None
        """Why the file of points is not whole, if it is not."""
        self._held = lock
        self._lock = threading.Lock()
        self._unsent: list[tuple[MetricPoint, int]] = []
        self._size = 0
        self._pending: dict[str, Any] = {}
        self._batch = 0

    @classmethod
    def create(cls, home: Path, header: OutboxHeader, *, alone: bool = False) -> Outbox:
        """A new one.

        Args:
          home: The store's folder.
          header: Of the run.
          alone: Whether no other process of this machine may write the run, which has an id.

        Raises:
          BusyRunError: Another does.
          TrackingError: The folder cannot be written.
        """
        # Of our own making: a name that a person or a server gave might lead elsewhere.
        token = uuid.uuid5(_SPACE, header.run_id or "") if alone else uuid.uuid4()
        folder = home / FOLDER / token.hex
        try:
            folder.mkdir(parents=True, exist_ok=alone)
            journal = cls(folder, header, _hold(folder))
            journal._write_header()
        except OSError as error:
            raise TrackingError(
                f"{folder}: cannot be written: {error.strerror}; what a run has told must be kept "
                "there until its store has it: make room, or run in another folder"
            ) from error
        return journal

    @classmethod
    def open(cls, folder: Path) -> Outbox:
        """One that a process has left.

        Raises:
          BusyRunError: A process holds it.
          TrackingError: It cannot be read.
        """
        try:
            journal = cls(folder, _header(folder), _hold(folder))
            journal._read_points()
            journal._pending = _json(folder / "pending.json") or {}
        except (OSError, ValueError, TypeError) as error:
            raise TrackingError(f"{folder}: cannot be read: {error}") from error
        numbers = [int(path.name) for path in journal.batches()]
        journal._batch = max(numbers, default=-1) + 1
        return journal

    @property
    def run_id(self) -> str | None:
        """The run's id in the store, once it is there."""
        return self.header.run_id

    def ask(self) -> None:
        """Notes that the store is being asked to make the run."""
        self.header = replace(self.header, asked_for=True)
        self._write_header()

    def name(self, run_id: str) -> None:
        """Notes the run's id; it goes on, if it had ended."""
        self.header = replace(self.header, run_id=run_id, ended=False)
        self._write_header()

    def end(self) -> None:
        """Notes that the store knows how it ended."""
        self.header = replace(self.header, ended=True)
        with contextlib.suppress(OSError):  # a full disk; it is about to be removed
            self._write_header()

    # -- Points

    def log(self, points: Sequence[MetricPoint]) -> None:
        """Adds points. Never fails; see `trouble`."""
        lines = [json.dumps(point) + "\n" for point in points]
        with self._lock:
            for point, line in zip(points, lines, strict=True):
                self._size += len(line)
                self._unsent.append((point, self._size))
            try:
                with self._points.open("a", encoding="ascii") as file:
                    file.write("".join(lines))
            except OSError as error:
                self.trouble = error.strerror or str(error)

    def unsent(self, most: int) -> list[MetricPoint]:
        """The oldest points that the store has not taken."""
        with self._lock:
            return [point for point, _ in self._unsent[:most]]

    def sent(self, count: int) -> None:
        """The store has taken the oldest points."""
        with self._lock:
            if not count:
                return
            size = self._unsent[count - 1][1]
            del self._unsent[:count]
        with contextlib.suppress(OSError):  # they are sent again then, which adds nothing
            _write(self.folder / "sent", str(size))

    def logged(self) -> Iterator[MetricPoint]:
        """All points in the file, those that were sent too."""
        with contextlib.suppress(FileNotFoundError):
            yield from _points(self._points.read_bytes())

    def secure(self) -> None:
        """Makes the points outlive a loss of power."""
        with contextlib.suppress(OSError), self._points.open("rb") as file:
            os.fsync(file.fileno())

    # -- Files

    def add_files(self, source: Path, below: str = "") -> None:
        """Adds a copy of all below a folder.

        Args:
          source: The folder.
          below: Where it stands among the run's artifacts.

        Raises:
          OSError: There is no room for it.
        """
        files = self.folder / "files"
        partial = files / f"{self._batch}.partial"
        try:
            shutil.copytree(source, partial / below, dirs_exist_ok=True)
            partial.rename(files / str(self._batch))
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._batch += 1

    def batches(self) -> list[Path]:
        """Folders of artifacts that wait, the oldest first."""
        files = self.folder / "files"
        found = files.iterdir() if files.is_dir() else ()
        return sorted((path for path in found if path.name.isdigit()), key=lambda p: int(p.name))

    # -- The rest

    def note(self, **values: Any) -> None:
        """Adds to what is said last of a run: `description`, or `status` and `ended`."""
        with self._lock:
            self._pending = self._pending | values
            with contextlib.suppress(OSError):
                _write(self.folder / "pending.json", json.dumps(self._pending))

    @property
    def pending(self) -> Mapping[str, Any]:
        """What is to be said last."""
        with self._lock:
            return dict(self._pending)

    def said(self, values: Mapping[str, Any]) -> None:
        """The store has taken it."""
        with self._lock:
            items = self._pending.items()
            self._pending = {key: value for key, value in items if values.get(key) != value}
            with contextlib.suppress(OSError):
                _write(self.folder / "pending.json", json.dumps(self._pending))

    @property
    def is_delivered(self) -> bool:
        """Whether the store has it all."""
        return (
            self.run_id is not None
            and not self._unsent
            and not self.batches()
            and not self._pending
        )

    def what_waits(self) -> str:
        """In words."""
        parts = ["the run itself"] if self.run_id is None else []
        if self._unsent:
            parts.append(f"{len(self._unsent):,} metric points")
        if self.batches():
            parts.append("files")
        if self._pending:
            parts.append("how it ended")
        return ", ".join(parts)

    def remove(self) -> None:
        """Removes it all, when the store has it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Lets other processes have it."""
        self._held.close()

    @property
    def _points(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _read_points(self) -> None:
        if not self._points.exists():
            return
        content = self._points.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a line that was being written
            os.truncate(self._points, whole)
        try:
            begin = int((self.folder / "sent").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            begin = 0
        if begin > whole or (begin and content[begin - 1 : begin] != b"\n"):
            begin = 0  # points are missing in the file, which a full disk does
        self._size = whole
        self._unsent = [(point, whole) for point in _points(content[begin:whole])]

    def _write_header(self) -> None:
        _write(self.folder / "run.json", json.dumps(asdict(self.header)))


def journals(home: Path) -> list[Path]:
    """Folders of all journals beside a store."""
    found = sorted((home / FOLDER).glob("*/run.json"))
    return [path.parent for path in found]


def is_held(folder: Path) -> bool:
    """Whether a process has a journal open."""
    try:
        _hold(folder).close()
    except BusyRunError:
        return True
    except OSError:  # it may only be read
        return False
    return False


def folders_of(home: Path, run_id: str) -> Iterator[Path]:
    """The folders of a run's journals: what processes write now, or have left."""
    for folder in journals(home):
        with contextlib.suppress(OSError, ValueError, TypeError):
            if _header(folder).run_id == run_id:
                yield folder


def folder_of(home: Path, run_id: str) -> Path | None:
    """The folder of a run that one process writes; None if nothing is left of it."""
    return next(folders_of(home, run_id), None)


def read_header(folder: Path) -> OutboxHeader:
    """What a journal says of its run.

    Raises:
      TrackingError: It cannot be read.
    """
    try:
        return _header(folder)
    except (OSError, ValueError, TypeError) as error:
        raise TrackingError(f"{folder}: cannot be read: {error}") from error


def _header(folder: Path) -> OutboxHeader:
    return OutboxHeader(**json.loads((folder / "run.json").read_text(encoding="utf-8")))


def _hold(folder: Path) -> IO[str]:
    """An open file that no other process can hold; the system lets go of it when we end."""
    import fcntl  # not on every platform

    path = folder / "lock"
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held it may have removed it just now, and what we hold is nothing then.
        if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            raise BlockingIOError
    except OSError as error:
        file.close()
        raise BusyRunError(
            f"the run in {folder} is in use by another process: wait for it, or end it"
        ) from error
    return file


def _points(content: bytes) -> Iterator[MetricPoint]:
    """Those that can be read: a loss of power may leave anything."""
    for line in content.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            yield MetricPoint(*json.loads(line))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
