"""A run's record in MLflow, kept off the training thread."""

from __future__ import annotations

import getpass
import itertools
import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dqnkit._system.commands import as_typed
from dqnkit._system.redaction import redact_secrets
from dqnkit._system.text import one_line
from dqnkit.errors import BusyRunError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking import outbox as journals
from dqnkit.tracking.client import (
    NOTE_TAG,
    PARENT_TAG,
    PROCESS_TAG,
    explained,
    may_pass,
)
from dqnkit.tracking.delivery import Delivery, take_up
from dqnkit.tracking.location import StoreLocation, experiment_url
from dqnkit.tracking.outbox import MetricPoint, Outbox, OutboxHeader
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import KIND_TAG, NO_PARENT, ParentRun, RunRecord

_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
_ATTEMPTS = 3
_PATIENCE_SECONDS = 15.0
"""Longest that `finish` waits for a store that takes nothing."""
_HASTE_SECONDS = 2.0
"""The same where somebody is waiting."""
_OPEN_SECONDS = 5.0
"""Longest that a training waits for a server before it begins."""
_PARENT_SECONDS = 30.0
"""Longest that a run waits for a store that has taken the run above it, but does not answer now."""


class MlflowTracker:
    """Writes a run to an MLflow store (`Tracker`).

    All goes into a journal, and a thread brings to the store what has gathered there: for MLflow,
    calls are dear and metrics are cheap. While a store does not answer, the journal grows and the
    training goes on; what is left of it in the end is sent by `syncing.sync`.
    """

    keeps_files = True

    def __init__(self, store: StoreLocation, belongs_to: ParentRun = NO_PARENT) -> None:
        self._store = store
        self._belongs_to = belongs_to
        self._journal: Outbox | None = None
        self._delivery: Delivery
        self._is_new = True
        self._known: dict[str, set[int]] = {}
        self._changed = threading.Condition()
        self._news = False
        self._closing = threading.Event()
        self._moved = time.monotonic()
        self._patience = math.inf
        self._failure: BaseException | None = None
        self._problems: list[str] = []
        self._sender = threading.Thread(target=self._send, name="dqnkit-tracking", daemon=True)

    @property
    def run_id(self) -> str | None:
        """See `Tracker`."""
        return self._journal.run_id if self._journal else None

    @property
    def folder(self) -> Path | None:
        """See `Tracker`."""
        return self._journal.folder if self._journal else None

    def start(self, record: RunRecord) -> list[str]:
        """See `Tracker`."""
        trains = record.tags.get(KIND_TAG) not in {None, "comparison"}
        advice = ", or train without a record by --set tracking.enabled=false" if trains else ""
        notes = []
        try:
            with explained(self._store, advice):
                if record.continues is None or not self._continue(record.continues, record):
                    self._begin(Outbox.create(self._store.home, self._header(record)))
                if self._may_go_on_without(record):
                    self._open_in_time()
                else:
                    self._open()
        except TrackingError as error:
            passes = self._may_go_on_without(record) and may_pass(error.__cause__)
            if self._journal is None or not passes:
                self._abandon()
                raise
            notes.append(
                f"the tracking store {self._store.name} does not answer: the run is kept in "
                f"{self._journal.folder} and sent as soon as it does"
            )
        self._sender.start()
        return notes

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        now = int(time.time() * 1000)
        points = [
            MetricPoint(key, float(value), now, step)
            for key, value in metrics.items()
            if not math.isnan(value) and step not in self._known.get(key, ())
        ]
        if self._journal is not None and points:
            self._journal.log(points)
            self._wake()

    def artifacts(self, folder: Path) -> None:
        """See `Tracker`."""
        self._keep(folder, "")

    def policy(self, policy: PolicyFiles) -> None:
        """See `Tracker`."""
        from dqnkit.tracking import policy_model  # imports mlflow

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "policy"
            policy_model.write(policy, folder)
            self._keep(folder, "policy")

    def describe(self, markdown: str) -> None:
        """See `Tracker`."""
        if self._journal is not None:
            self._journal.note(description=redact_secrets(markdown))
            self._wake()

    def secure(self) -> None:
        """See `Tracker`."""
        if self._journal is not None:
            self._journal.secure()

    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        """See `Tracker`."""
        if self._journal is not None:
            self._journal.note(status=str(status), ended=int(time.time() * 1000))
        return self._close(patiently=patiently)

    def _close(self, *, patiently: bool) -> list[str]:
        """Sends what is left; what the store did not take, in words."""
        journal = self._journal
        if journal is None:
            return self._problems
        self._moved = time.monotonic()
        self._patience = _PATIENCE_SECONDS if patiently else _HASTE_SECONDS
        self._closing.set()
        self._wake()
        while self._sender.is_alive() and not self._is_out_of_patience:
            self._sender.join(0.1)
        self._sender.join(_RETRY_SECONDS[0])  # it may be about to see that, or wait for an answer
        if journal.is_delivered:
            journal.remove()
            return self._problems
        why = f": {one_line(self._failure)}" if self._failure is not None else ""
        self._problems.append(
            f"the tracking store {self._store.name} did not take it all{why}; "
            f"{journal.what_waits()} wait in {journal.folder}: "
            f"`{as_typed(self._store.command('sync'))}` sends them"
        )
        if journal.trouble is not None:
            self._problems.append(
                f"{journal.folder} cannot be written ({journal.trouble}): metric points may be lost"
            )
        return self._problems

    def command(self, words: str) -> str | None:
        """See `Tracker`."""
        return as_typed(self._store.command(words))

    def hints(self) -> dict[str, str]:
        """See `Tracker`."""
        if self._store.address is not None:
            known = self._delivery.experiment_id if self._journal else ""
            page = experiment_url(known) if known else ""
            return {"page": self._store.address + page}
        return {"show it": as_typed(self._store.ui_command)}

    # -- Beginning

    def _header(self, record: RunRecord) -> OutboxHeader:
        tags = {
            **record.tags,
            **self._belongs_to.tags,
            **({PARENT_TAG: self._belongs_to.parent} if self._belongs_to.parent else {}),
            PROCESS_TAG: identity.identity(),
            NOTE_TAG: record.description,
            "mlflow.source.name": "dqnkit",
            "mlflow.user": getpass.getuser(),
        }
        return OutboxHeader(
            store=self._store.name,
            experiment=record.experiment,
            run_name=record.run_name,
            params={key: redact_secrets(str(value)) for key, value in record.params.items()},
            tags={key: redact_secrets(value) for key, value in tags.items()},
            started=int(time.time() * 1000),
        )

    def _open(self) -> None:
        """Makes the run; a store that others write already is waited for a while."""
        deadline = time.monotonic() + (_PARENT_SECONDS if self._belongs_to.parent else 0.0)
        for failures in itertools.count():
            try:
                self._delivery.open()
            except Exception as error:
                if not may_pass(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            else:
                return

    def _begin(self, journal: Outbox) -> None:
        self._journal = journal
        self._delivery = Delivery(self._store, journal)

    def _continue(self, run_id: str, record: RunRecord) -> bool:
        """Takes up an earlier record; False if the store has it no more."""
        left = self._left_journal(run_id, record)
        self._is_new = left is None
        if left is None:
            header = replace(self._header(record), run_id=run_id)
            left = Outbox.create(self._store.home, header, alone=not record.is_shared)
        journal = left
        self._begin(journal)
        client = self._delivery.connect()
        tags = {key: redact_secrets(value) for key, value in record.tags.items()}
        alone = not record.is_shared
        if not take_up(client, run_id, tags, alone=alone, last_ended=record.last_ended):
            self._abandon()
            return False
        journal.said(journal.pending)  # how it had ended
        journal.name(run_id)
        if record.repeats:
            self._learn_what_is_known(journal, client, run_id)
        return True

    def _left_journal(self, run_id: str, record: RunRecord) -> Outbox | None:
        """What a process that ended has left of a run; those of a shared one that live are theirs.

        Raises:
          BusyRunError: Another process writes it, and only one may.
        """
        for folder in journals.folders_of(self._store.home, run_id):
            try:
                return Outbox.open(folder)
            except BusyRunError:
                if not record.is_shared:
                    raise
        return None

    def _learn_what_is_known(self, journal: Outbox, client: Any, run_id: str) -> None:
        for point in journal.logged():
            self._known.setdefault(point.key, set()).add(point.step)
        for key in client.get_run(run_id).data.metrics:
            steps = {point.step for point in client.get_metric_history(run_id, key)}
            self._known.setdefault(key, set()).update(steps)

    def _may_go_on_without(self, record: RunRecord) -> bool:
        """Others need the id of a run that they stand below, or that they choose from."""
        is_alone = self._belongs_to == NO_PARENT and record.tags.get(KIND_TAG) == "training"
        return is_alone and record.continues is None

    def _open_in_time(self) -> None:
        """Opens; a server that takes long over it is as one that does not answer, until it does.

        Raises:
          TimeoutError: It takes long; the opening goes on.
          Exception: It failed.
        """
        if self._store.database is not None:
            self._open()
            return
        import mlflow as _  # noqa: F401 - whose own seconds are not the server's

        failures: list[BaseException] = []
        opened = threading.Event()

        def attempt() -> None:
            try:
                self._delivery.open()
            except Exception as error:  # told below, or met again by the sender
                failures.append(error)
            opened.set()

        threading.Thread(target=attempt, name="dqnkit-opening", daemon=True).start()
        if not opened.wait(_OPEN_SECONDS):
            raise TimeoutError(f"no answer for {_OPEN_SECONDS:.0f} s")
        if failures:
            raise failures[0]

    def _abandon(self) -> None:
        if self._journal is None:
            return
        self._delivery.give_up()
        if self._is_new:
            self._journal.remove()
        else:
            self._journal.close()
        self._journal, self._is_new = None, True

    # -- Sending

    def _wake(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify()

    def _send(self) -> None:
        self._deliver()
        if self._journal is not None:
            self._journal.close()  # whoever comes next may send what is left

    def _deliver(self) -> None:
        failures = 0
        while not self._is_out_of_patience:
            try:
                while self._delivery.step():
                    failures, self._moved = 0, time.monotonic()
            except Exception as error:  # whatever the store's trouble is, training goes on
                self._failure = error
                self._pause(failures)
                failures += 1
                continue
            if self._closing.is_set():
                return
            with self._changed:
                while not self._news and not self._closing.is_set():
                    self._changed.wait()
                self._news = False

    @property
    def _is_out_of_patience(self) -> bool:
        return time.monotonic() - self._moved > self._patience

    def _pause(self, failures: int) -> None:
        """Waits before another try: longer each time, and never long once the run has ended."""
        seconds = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
        if self._closing.is_set():
            time.sleep(min(seconds, _RETRY_SECONDS[0]))
        else:
            self._closing.wait(seconds)

    def _keep(self, folder: Path, below: str) -> None:
        if self._journal is None:
            return
        try:
            self._journal.add_files(folder, below)
        except OSError as error:
            # Without room for a copy, the store may still have some.
            what = "the policy" if below else f"files {sorted(p.name for p in folder.iterdir())}"
            if self.run_id is None:
                self._problems.append(f"{what} are lost: {error.strerror or error}")
                return
            self._attempt(
                what,
                lambda: self._delivery.client.log_artifacts(
                    self.run_id, str(folder), below or None
                ),
            )
        else:
            self._wake()

    def _attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Tries a few times; a failure is told by `finish` and costs nothing else."""
        for failures in range(_ATTEMPTS):
            try:
                action()
            except Exception as error:  # a lost artifact must not cost a finished training
                if failures == _ATTEMPTS - 1:
                    self._problems.append(f"{what} could not be kept: {one_line(error)}")
                    break
                time.sleep(_RETRY_SECONDS[0])
            else:
                return True
        return False
