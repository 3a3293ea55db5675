"""Sends what stores did not take while runs were trained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dqnkit._system.arrays import CheckpointFolder
from dqnkit.errors import BusyRunError, DqnkitError
from dqnkit.tracking.client import end_stale_runs, experiment_names, explained
from dqnkit.tracking.delivery import Delivery
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.outbox import (
    CHECKPOINTS,
    LAST_CHECKPOINT,
    Outbox,
    OutboxHeader,
    is_held,
    journals,
    read_header,
)


@dataclass(frozen=True)
class SyncedRun:
    """What became of a run that waited."""

    run_name: str
    experiment: str
    folder: str
    sent: bool
    """Whether the store has it all now."""
    what: str
    """What was sent, or waits still, in words."""
    why: str = ""
    """It waits."""


@dataclass(frozen=True)
class SyncResult:
    """What `sync` came to."""

    store: str
    runs: tuple[SyncedRun, ...]

    @property
    def left(self) -> int:
        """Runs that wait still."""
        return sum(not run.sent for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"store": self.store, "left": self.left, "runs": [asdict(run) for run in self.runs]}


def waiting(store: StoreLocation) -> int:
    """Runs of a store of which something has not been sent, those in training aside."""
    return sum(
        not is_held(folder) and header is not None and _is_of(header, store)
        for folder, header in _headers(store)
    )


def stores_waited_for(store: StoreLocation) -> list[str]:
    """Other stores for which runs wait in the same folder."""
    found = {
        header.store
        for folder, header in _headers(store)
        if header is not None and not is_held(folder) and not _is_of(header, store)
    }
    return sorted(found)


def _headers(store: StoreLocation) -> Iterator[tuple[Path, OutboxHeader | None]]:
    for folder in journals(store.home):
        try:
            yield folder, read_header(folder)
        except DqnkitError:
            yield folder, None


def _is_of(header: OutboxHeader, store: StoreLocation) -> bool:
    """Whether a run belongs to a store; an embedded one may have been moved with its runs."""
    return header.store == store.name or (
        store.database is not None and header.store.startswith("sqlite:")
    )


def sync(store: StoreLocation) -> SyncResult:
    """Sends to a store what waits beside it, and sets right what was left half done.

    Runs that are in training are left alone. Nothing is sent twice.
    """
    return SyncResult(store.name, tuple(_one(store, folder) for folder in journals(store.home)))


def _one(store: StoreLocation, folder: Path) -> SyncedRun:
    try:
        header = read_header(folder)
    except DqnkitError as error:
        why = f"{error}; nothing can send it: remove the folder if nothing in it is wanted"
        return SyncedRun(folder.name, "", str(folder), sent=False, what="", why=why)

    def outcome(*, sent: bool, what: str, why: str = "") -> SyncedRun:
        return SyncedRun(header.run_name, header.experiment, str(folder), sent, what, why)

    if not _is_of(header, store):
        why = f"it is of the store {header.store}: name that by --tracking-uri"
        return outcome(sent=False, what="all of it", why=why)
    try:
        journal = Outbox.open(folder)
    except BusyRunError:
        return outcome(sent=False, what="", why="it is in training")
    except DqnkitError as error:
        return outcome(sent=False, what="", why=str(error))
    try:
        with explained(store):
            what = _deliver(store, journal)
    except DqnkitError as error:
        left = journal.what_waits()
        journal.close()
        return outcome(sent=False, what=left, why=str(error))
    return outcome(sent=True, what=what)


def _deliver(store: StoreLocation, journal: Outbox) -> str:
    """Sends it all; what it was, in words."""
    # One that has told how it ended may have been killed as it cleared away.
    was_killed = "status" not in journal.pending and not journal.header.ended
    if was_killed:
        _add_checkpoint(journal)
    what = journal.what_waits() or "nothing was left"
    delivery = Delivery(store, journal)
    while delivery.step():
        pass
    journal.remove()
    if was_killed:
        end_stale_runs(delivery.client, experiment_names(delivery.client))
    return what


def _add_checkpoint(journal: Outbox) -> None:
    """A killed process has not made its last checkpoint an artifact."""
    kept = [batch / CHECKPOINTS / LAST_CHECKPOINT for batch in journal.batches()]
    if any(path.is_file() for path in kept):  # by a try that failed
        return
    with tempfile.TemporaryDirectory(dir=journal.folder) as scratch:
        own = CheckpointFolder(journal.folder / CHECKPOINTS)
        if own.copy_newest(Path(scratch) / CHECKPOINTS / LAST_CHECKPOINT):
            journal.add_files(Path(scratch))
