"""Brings a journal's contents to its store, each piece once."""

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import Any

from dqnkit.errors import BusyRunError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking.client import (
    NOTE_TAG,
    PROCESS_TAG,
    connect,
    end_stale_runs,
    experiment_id,
    experiment_names,
    quoted,
)
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.outbox import Outbox

JOURNAL_TAG = "dqnkit.journal"
"""Tag by which a run is found that was made though the answer was lost."""
_POINTS = 1_000
"""Metrics that MLflow takes in one call."""


class Delivery:
    """Sends what a journal holds. Whatever fails may be tried again: nothing is doubled."""

    def __init__(self, store: StoreLocation, journal: Outbox) -> None:
        self.experiment_id = ""
        self.client: Any = None
        """MLflow's, once connected."""
        self._store = store
        self._journal = journal
        self._is_open = False
        self._opening = threading.Lock()
        self._made: str | None = None

    def connect(self) -> Any:
        """Gives MLflow's client."""
        if self.client is None:
            self.client = connect(self._store)
        return self.client

    def open(self) -> None:
        """Connects, and makes the run where the store does not have it yet."""
        with self._opening:
            if self._is_open:
                return
            self.connect()
            header = self._journal.header
            self.experiment_id = experiment_id(self.client, self._store, header.experiment)
            end_stale_runs(self.client, experiment_names(self.client))
            if header.run_id is None:
                self._make()
            self._is_open = True

    def give_up(self) -> None:
        """Ends a run that could only half be made."""
        if self._made is not None:
            with contextlib.suppress(Exception):  # the next command that looks finds it
                self.client.set_terminated(self._made, str(RunStatus.FAILED))

    def step(self) -> bool:
        """Delivers the next piece; False if none is left."""
        self.open()
        journal, run_id = self._journal, self._journal.run_id
        points = journal.unsent(_POINTS)
        if points:
            from mlflow.entities import Metric  # the client has loaded it

            self.client.log_batch(run_id, metrics=[Metric(*point) for point in points])
            journal.sent(len(points))
            return True
        for batch in journal.batches():
            self.client.log_artifacts(run_id, str(batch))
            shutil.rmtree(batch)
            return True
        return self._say(journal.pending)

    def _say(self, last: Any) -> bool:
        if "description" in last:
            self.client.set_tag(self._journal.run_id, NOTE_TAG, last["description"])
        if "status" in last:
            self.client.set_terminated(self._journal.run_id, last["status"], last["ended"])
            self._journal.end()
        self._journal.said(last)
        return bool(last)

    def _make(self) -> None:
        from mlflow.entities import Param  # the client has loaded it

        header, token = self._journal.header, self._journal.folder.name
        found = []
        if header.asked_for:
            condition = f"tags.`{JOURNAL_TAG}` = {quoted(token)}"
            found = self.client.search_runs([self.experiment_id], condition, 1, 1)
        if not found:
            self._journal.ask()
            tags = {**header.tags, JOURNAL_TAG: token}
            name, began = header.run_name, header.started
            found = [self.client.create_run(self.experiment_id, began, tags, name)]
        self._made = str(found[0].info.run_id)
        params = [Param(key, value) for key, value in header.params.items()]
        self.client.log_batch(self._made, params=params)
        self._journal.name(self._made)


def take_up(
    client: Any,
    run_id: str,
    tags: dict[str, str],
    *,
    alone: bool,
    last_ended: float | None = None,
) -> bool:
    """Makes an ended run go on, as this process's; False if there is no such run any more.

    Args:
      client: MLflow's.
      run_id: Of the run.
      tags: That it gets.
      alone: Whether no other process may write it.
      last_ended: See `RunRecord`.

    Raises:
      BusyRunError: Another process writes it, and this one must be alone; or one has.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return False
        raise
    if run.info.lifecycle_stage == "deleted":
        return False
    owner = run.data.tags.get(PROCESS_TAG, "")
    if alone and run.info.status == "RUNNING" and not identity.is_dead(owner):
        raise BusyRunError(
            f"the run {run.info.run_name!r} is being trained on {identity.host(owner)}: wait for "
            "it, or end it"
        )
    if alone and last_ended is not None and run.info.end_time != round(last_ended * 1000):
        raise BusyRunError(
            f"the run {run.info.run_name!r} has gone on since, and is {run.info.status} now: look "
            "at it again"
        )
    # First whose run it is, so that nobody takes it for one whose process has died.
    for key, value in (*tags.items(), (PROCESS_TAG, identity.identity())):
        client.set_tag(run_id, key, value)
    client.update_run(run_id, "RUNNING")
    return True
