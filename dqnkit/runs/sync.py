"""Delivery of what stores did not receive while runs were trained."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dqnkit.errors import BusyRunError, DqnkitError
from dqnkit.runs.checkpoints import CheckpointFolder
from dqnkit.tracking.client import end_stale_runs, experiment_names, wrap_store_errors
from dqnkit.tracking.location import AUTO, StoreLocation, locate_store
from dqnkit.tracking.names import Artifact
from dqnkit.tracking.outbox import (
    Delivery,
    Outbox,
    OutboxHeader,
    belongs_to,
    outbox_folders,
    read_header,
)


@dataclass(frozen=True)
class SyncedRun:
    """Outcome of the delivery of one run."""

    run_name: str
    experiment: str
    folder: str
    """Folder of the run's outbox."""
    sent: bool
    """True if the store has everything now."""
    what: str
    """Description of what was sent or is still pending; empty if there is nothing."""
    why: str = ""
    """Reason why it is still pending; empty if it is sent."""


@dataclass(frozen=True)
class SyncResult:
    """Outcome of `sync`."""

    store: str
    runs: tuple[SyncedRun, ...]

    @property
    def left(self) -> int:
        """Number of runs that are still not delivered."""
        return sum(not run.sent for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {"store": self.store, "left": self.left, "runs": [asdict(run) for run in self.runs]}


def sync(tracking_uri: str | None = AUTO) -> SyncResult:
    """Deliver to a store what is pending beside it, and end runs whose process has died.

    Runs in training are left alone. Nothing arrives twice.

    Args:
      tracking_uri: URI of the store (`dqnkit.tracking.location.locate_store`).

    Raises:
      ConfigError: If the URI is wrong or the store cannot be written.
    """
    store = locate_store(tracking_uri).make()
    return SyncResult(store.name, tuple(_sync(store, each) for each in outbox_folders(store.home)))


def _sync(store: StoreLocation, folder: Path) -> SyncedRun:
    try:
        header = read_header(folder)
    except DqnkitError as error:
        why = f"{error}; it cannot be sent: remove the folder if you do not need its contents"
        return SyncedRun(folder.name, "", str(folder), sent=False, what="", why=why)
    if not belongs_to(header, store):
        why = f"it belongs to the store {header.store}: choose that with `tracking_uri`"
        return _outcome(header, folder, sent=False, what="the whole run", why=why)
    try:
        outbox = Outbox.open(folder)
    except BusyRunError:
        return _outcome(header, folder, sent=False, what="", why="it is in training")
    except DqnkitError as error:
        return _outcome(header, folder, sent=False, what="", why=str(error))
    try:
        with wrap_store_errors(store):
            what = _deliver(store, outbox)
    except DqnkitError as error:
        left = outbox.describe_pending()
        outbox.close()
        return _outcome(header, folder, sent=False, what=left, why=str(error))
    return _outcome(header, folder, sent=True, what=what)


def _outcome(
    header: OutboxHeader, folder: Path, *, sent: bool, what: str, why: str = ""
) -> SyncedRun:
    return SyncedRun(header.run_name, header.experiment, str(folder), sent, what, why)


def _deliver(store: StoreLocation, outbox: Outbox) -> str:
    """Deliver everything; return what it was, in words."""
    # A process that has set the final status may have been killed while it removed the outbox.
    was_killed = "status" not in outbox.pending_final_state and not outbox.header.ended
    if was_killed:
        _add_checkpoint(outbox)
    what = outbox.describe_pending()
    delivery = Delivery(store, outbox)
    while delivery.deliver_next():
        pass
    outbox.remove()
    if was_killed:
        end_stale_runs(delivery.client, experiment_names(delivery.client))
    return what


def _add_checkpoint(outbox: Outbox) -> None:
    """Add the newest checkpoint of a killed process, which could not make it an artifact."""
    name = f"{Artifact.CHECKPOINTS}/{Artifact.LAST_CHECKPOINT}"
    if any((batch / name).is_file() for batch in outbox.pending_files()):  # by an earlier attempt
        return
    with tempfile.TemporaryDirectory(dir=outbox.folder) as scratch:
        if CheckpointFolder(outbox.folder / Artifact.CHECKPOINTS).copy_newest(Path(scratch)):
            outbox.add_files(Path(scratch))
