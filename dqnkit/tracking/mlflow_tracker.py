"""The tracker that records a run in MLflow, from a thread of its own."""

from __future__ import annotations

import contextlib
import itertools
import math
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from dqnkit._system.redaction import redact_secrets
from dqnkit._system.text import one_line
from dqnkit.errors import BusyRunError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking.client import describe_store_error, is_transient, wrap_store_errors
from dqnkit.tracking.location import StoreLocation, experiment_url
from dqnkit.tracking.names import Artifact, RunKind, Tag
from dqnkit.tracking.outbox import Delivery, MetricPoint, Outbox, OutboxHeader, folders_of_run
from dqnkit.tracking.pages import find_page
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.tracker import NO_PARENT, ParentRun, RunHeader, Tracker

_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
_ATTEMPTS = 3
_PATIENCE_SECONDS = 15.0
"""Longest time that `finish` waits for a store that accepts nothing."""
_SHORT_PATIENCE_SECONDS = 2.0
"""Longest time that `finish` waits for such a store when the user is waiting."""
_OPEN_SECONDS = 5.0
"""Longest time that training waits for a server before it begins."""
_PARENT_SECONDS = 30.0
"""Longest time that a run waits for the store of its parent run to answer again."""


class MlflowTracker(Tracker):
    """Writes a run to an MLflow store.

    Everything goes into an outbox, and a thread delivers what has gathered there: calls to MLflow
    are expensive and metrics in one call are cheap. While a store does not answer, the outbox
    grows and training continues. `dqnkit.runs.sync` delivers what is left at the end.
    """

    keeps_files = True

    def __init__(self, location: StoreLocation, parent: ParentRun = NO_PARENT) -> None:
        self._location = location
        self._parent = parent
        self._outbox: Outbox | None = None
        self._delivery: Delivery
        self._is_new_outbox = True
        self._known_steps: dict[str, set[int]] = {}
        """Steps that the store already has, by metric, for a run that repeats points."""
        self._changed = threading.Condition()
        self._has_news = False
        self._closing = threading.Event()
        self._last_success = time.monotonic()
        self._patience = math.inf
        self._experiment = ""
        self._failure: BaseException | None = None
        self._problems: list[str] = []
        self._sender = threading.Thread(target=self._send, name="dqnkit-tracking", daemon=True)

    @property
    @override
    def run_id(self) -> str | None:
        return self._outbox.run_id if self._outbox else None

    @property
    @override
    def folder(self) -> Path | None:
        return self._outbox.folder if self._outbox else None

    @override
    def start(self, header: RunHeader) -> list[str]:
        self._experiment = header.experiment
        trains = header.tags.get(Tag.KIND) not in {None, RunKind.COMPARISON}
        advice = ", or train without a record: tracking.enabled=false" if trains else ""
        warnings = []
        try:
            with wrap_store_errors(self._location, advice):
                self._open_record(header)
        except TrackingError as error:
            passes = self._may_start_unrecorded(header) and is_transient(error.__cause__)
            if self._outbox is None or not passes:
                self._abandon()
                raise
            warnings.append(
                f"the tracking store {self._location.name} does not answer: the run is kept in "
                f"{self._outbox.folder} and sent as soon as the store does"
            )
        self._sender.start()
        self.log(self._parent.metrics, 0)
        return warnings

    @override
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        points = [
            MetricPoint(key, float(value), now, step)
            for key, value in metrics.items()
            if not math.isnan(value) and step not in self._known_steps.get(key, ())
        ]
        if self._outbox is not None and points:
            self._outbox.add_points(points)
            self._wake_sender()

    @override
    def add_artifacts(self, folder: Path) -> None:
        self._add_files(folder, "")

    @override
    def add_policy(self, policy: PolicyFiles) -> None:
        from dqnkit.tracking import policy_model  # imports MLflow

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / Artifact.POLICY
            policy_model.write(policy, folder)
            self._add_files(folder, Artifact.POLICY)

    @override
    def describe(self, markdown: str) -> None:
        if self._outbox is not None:
            self._outbox.set_final_state(description=redact_secrets(markdown))
            self._wake_sender()

    @override
    def sync_to_disk(self) -> None:
        if self._outbox is not None:
            self._outbox.sync_to_disk()

    @override
    def take_over(self) -> None:
        if self.run_id is not None:
            run_id, client = self.run_id, self._delivery.client
            self._attempt(
                "the owner of the run",
                lambda: resume_run(client, run_id, {}, exclusive=False),
            )

    @override
    def hand_over(self, process: str | None) -> list[str]:
        if self.run_id is not None and process is not None:
            run_id, client = self.run_id, self._delivery.client
            self._attempt(
                "the owner of the run", lambda: client.set_tag(run_id, Tag.PROCESS, process)
            )
        return self._close(patiently=True)

    @override
    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        if self._outbox is not None:
            self._outbox.set_final_state(status=str(status), ended=int(time.time() * 1000))
        return self._close(patiently=patiently)

    @override
    def command_line(self, command: str, **arguments: str | None) -> str | None:
        return self._location.command_line(command, **arguments)

    @override
    def hints(self, **shown: str) -> dict[str, str]:
        if self._location.address is not None:
            return {"page": self._location.address + self._page(shown)}
        run = shown.pop("run", None)
        command = "ui" if run is None else f"ui {shlex.quote(run)}"
        return {"show it": self._location.command_line(command, **shown)}

    def _page(self, shown: dict[str, str]) -> str:
        """Return the path of a page of the server."""
        known = self._delivery.experiment_id if self._outbox else ""
        if not known:
            return ""
        answers = time.monotonic() - self._last_success < _PATIENCE_SECONDS
        if answers and self._parent == NO_PARENT:
            with contextlib.suppress(Exception):  # the training is what counts
                asked = shown or {"experiment": self._experiment}
                return find_page(RunStore(self._location), **asked).path
        return experiment_url(known)

    # -- Opening the record

    def _open_record(self, header: RunHeader) -> None:
        if header.continues is None or not self._continue(header.continues, header):
            self._begin(Outbox.create(self._location.home, self._outbox_header(header)))
        if self._may_start_unrecorded(header):
            self._open_in_time()
        else:
            self._open()

    def _outbox_header(self, header: RunHeader) -> OutboxHeader:
        tags = {
            **header.tags,
            **self._parent.tags,
            **({Tag.PARENT: self._parent.run_id} if self._parent.run_id else {}),
            Tag.PROCESS: identity.identity(),
            Tag.NOTE: header.description,
            Tag.SOURCE: "dqnkit",
            Tag.USER: identity.user(),
        }
        return OutboxHeader(
            store=self._location.name,
            experiment=header.experiment,
            run_name=header.run_name,
            params={key: redact_secrets(str(value)) for key, value in header.params.items()},
            tags={key: redact_secrets(str(value)) for key, value in tags.items()},
            started=int(time.time() * 1000),
        )

    def _begin(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._delivery = Delivery(self._location, outbox)

    def _open(self) -> None:
        """Create the run; wait for a while for a store that already holds its parent."""
        deadline = time.monotonic() + (_PARENT_SECONDS if self._parent.run_id else 0.0)
        for failures in itertools.count():
            try:
                self._delivery.open()
            except Exception as error:
                if not is_transient(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            else:
                return

    def _may_start_unrecorded(self, header: RunHeader) -> bool:
        """Return whether training may begin before the store has created the run.

        Runs whose id other runs need must not (parents and their children), nor must resumed runs.
        """
        has_parent = self._parent != NO_PARENT
        is_training = header.tags.get(Tag.KIND) == RunKind.TRAINING
        return is_training and not has_parent and header.continues is None

    def _open_in_time(self) -> None:
        """Open the record, and treat a slow server as one that does not answer.

        Raises:
          TimeoutError: If it takes more than `_OPEN_SECONDS`; opening continues in its thread.
          Exception: If it failed.
        """
        if self._location.database is not None:
            self._open()
            return
        import mlflow as _  # noqa: F401 - its import must not count as the server's time

        failures: list[BaseException] = []
        opened = threading.Event()

        def attempt() -> None:
            try:
                self._delivery.open()
            except Exception as error:  # raised below, or met again by the sender
                failures.append(error)
            opened.set()

        threading.Thread(target=attempt, name="dqnkit-opening", daemon=True).start()
        if not opened.wait(_OPEN_SECONDS):
            raise TimeoutError(f"no answer for {_OPEN_SECONDS:.0f} s")
        if failures:
            raise failures[0]

    def _continue(self, run_id: str, header: RunHeader) -> bool:
        """Continue an earlier run; return False if the store does not have it any more."""
        exclusive = not header.is_shared
        left = self._outbox_left_by_others(run_id, exclusive=exclusive)
        self._is_new_outbox = left is None
        if left is None:
            outbox_header = replace(self._outbox_header(header), run_id=run_id)
            left = Outbox.create(self._location.home, outbox_header, exclusive=exclusive)
        outbox = left
        self._begin(outbox)
        client = self._delivery.connect()
        tags = {key: redact_secrets(str(value)) for key, value in header.tags.items()}
        if not resume_run(client, run_id, tags, exclusive=exclusive, last_ended=header.last_ended):
            self._abandon()
            return False
        # The status of the earlier process holds no longer.
        outbox.final_state_delivered(outbox.pending_final_state)
        outbox.run_created(run_id)
        if header.repeats:
            self._find_known_steps(outbox, client, run_id)
        return True

    def _outbox_left_by_others(self, run_id: str, *, exclusive: bool) -> Outbox | None:
        """Open the outbox that an ended process has left of a run, if there is one.

        Raises:
          BusyRunError: If a living process holds it and the run is exclusive.
        """
        for folder in folders_of_run(self._location.home, run_id):
            try:
                return Outbox.open(folder)
            except BusyRunError:
                if exclusive:
                    raise
        return None

    def _find_known_steps(self, outbox: Outbox, client: Any, run_id: str) -> None:
        for point in outbox.logged_points():
            self._known_steps.setdefault(point.key, set()).add(point.step)
        for key in client.get_run(run_id).data.metrics:
            steps = {point.step for point in client.get_metric_history(run_id, key)}
            self._known_steps.setdefault(key, set()).update(steps)

    def _abandon(self) -> None:
        if self._outbox is None:
            return
        self._delivery.abandon()
        if self._is_new_outbox:
            self._outbox.remove()
        else:
            self._outbox.close()
        self._outbox, self._is_new_outbox = None, True

    # -- Sending

    def _wake_sender(self) -> None:
        with self._changed:
            self._has_news = True
            self._changed.notify()

    def _send(self) -> None:
        self._deliver()
        if self._outbox is not None:
            self._outbox.close()  # another process may deliver the rest

    def _deliver(self) -> None:
        failures = 0
        while not self._is_out_of_patience:
            # Read before the delivery: what is added during it must get another one.
            is_last_delivery = self._closing.is_set()
            try:
                while self._delivery.deliver_next():
                    failures, self._last_success = 0, time.monotonic()
            except Exception as error:  # training continues whatever is wrong with the store
                self._failure = error
                self._pause(failures)
                failures += 1
                continue
            if is_last_delivery:
                return
            with self._changed:
                while not self._has_news and not self._closing.is_set():
                    self._changed.wait()
                self._has_news = False

    @property
    def _is_out_of_patience(self) -> bool:
        return time.monotonic() - self._last_success > self._patience

    def _pause(self, failures: int) -> None:
        """Wait before the next attempt, longer after each failure.

        Once the run has ended, the wait is at most a second.
        """
        seconds = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
        if self._closing.is_set():
            time.sleep(min(seconds, _RETRY_SECONDS[0]))
        else:
            self._closing.wait(seconds)

    def _close(self, *, patiently: bool) -> list[str]:
        """Send the rest; return descriptions of what the store did not receive."""
        outbox = self._outbox
        if outbox is None:
            return self._problems
        self._last_success = time.monotonic()
        self._patience = _PATIENCE_SECONDS if patiently else _SHORT_PATIENCE_SECONDS
        self._closing.set()
        self._wake_sender()
        while self._sender.is_alive() and not self._is_out_of_patience:
            self._sender.join(0.1)
        self._sender.join(_RETRY_SECONDS[0])  # it may be about to end, or wait for an answer
        if outbox.is_delivered:
            outbox.remove()
            return self._problems
        why = ""
        if self._failure is not None:
            why = f": {describe_store_error(self._failure, self._location)}"
        self._problems.append(
            f"the tracking store {self._location.name} did not receive everything{why}; "
            f"{outbox.describe_pending()} wait in {outbox.folder}: "
            f"`{self._location.command_line('sync')}` sends them"
        )
        if outbox.write_error is not None:
            self._problems.append(
                f"{outbox.folder} cannot be written ({outbox.write_error}): metric points may be "
                "lost"
            )
        return self._problems

    def _add_files(self, folder: Path, below: str) -> None:
        if self._outbox is None:
            return
        try:
            self._outbox.add_files(folder, below)
        except OSError as error:
            # The store may have space where this machine has none for a copy.
            what = "the policy" if below else f"files {sorted(p.name for p in folder.iterdir())}"
            if self.run_id is None:
                self._problems.append(f"{what} are lost: {error.strerror or error}")
                return
            run_id, client = self.run_id, self._delivery.client
            self._attempt(what, lambda: client.log_artifacts(run_id, str(folder), below or None))
        else:
            self._wake_sender()

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        """Try an action a few times; `finish` reports a failure, and nothing is raised."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                action()
            except Exception as error:  # a lost artifact must not end training
                if attempt == _ATTEMPTS:
                    self._problems.append(f"{what} could not be recorded: {one_line(error)}")
                else:
                    time.sleep(_RETRY_SECONDS[0])
            else:
                return


def resume_run(
    client: Any,
    run_id: str,
    tags: Mapping[str, str],
    *,
    exclusive: bool,
    last_ended: float | None = None,
) -> bool:
    """Set an ended run to RUNNING, owned by this process.

    Args:
      client: MLflow's client.
      run_id: Id of the run.
      tags: Tags to set.
      exclusive: True if no other process may write the run.
      last_ended: End time of the run when its checkpoint was read (`RunHeader.last_ended`).

    Returns:
      False if the store does not have the run any more.

    Raises:
      BusyRunError: If the run is exclusive and another process writes it, or has continued it.
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
    owner = run.data.tags.get(Tag.PROCESS, "")
    if exclusive and run.info.status == "RUNNING" and not identity.is_dead(owner):
        raise BusyRunError(
            f"the run {run.info.run_name!r} is being trained on {identity.host(owner)}: wait for "
            "it, or end it"
        )
    if exclusive and last_ended is not None and run.info.end_time != round(last_ended * 1000):
        raise BusyRunError(
            f"the run {run.info.run_name!r} has been continued in the meantime and is "
            f"{run.info.status} now: look it up again"
        )
    # The owner is set before the status, so that the run is never RUNNING with a dead owner.
    for key, value in (*tags.items(), (Tag.PROCESS, identity.identity())):
        client.set_tag(run_id, key, value)
    client.update_run(run_id, "RUNNING")
    return True
