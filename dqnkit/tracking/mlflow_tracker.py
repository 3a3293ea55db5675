"""A run's record in MLflow, kept off the training thread."""

from __future__ import annotations

import contextlib
import getpass
import json
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dqnkit.commands import as_typed
from dqnkit.tracking import processes
from dqnkit.tracking.client import (
    NOTE_TAG,
    PARENT_TAG,
    PROCESS_TAG,
    connect,
    experiment_id,
    experiment_names,
    explained,
    first_line,
    set_stale_runs_right,
)
from dqnkit.tracking.policy_files import PolicyFiles
from dqnkit.tracking.store import EMBEDDED, Store, experiment_page
from dqnkit.tracking.tracker import ALONE, KIND_TAG, Membership, RunRecord, Status

_BATCH = 1_000
"""Metrics that MLflow takes in one call."""
_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
_ATTEMPTS = 3
_FINISH_SECONDS = 30.0
"""Longest that `finish` waits until all metrics are sent."""


class MlflowTracker:
    """Writes a run to an MLflow store (`Tracker`).

    Metrics go to a buffer, and a thread sends what has gathered there in one call: for MLflow,
    calls are dear and metrics are cheap. While a store does not answer, the
    buffer grows and the training goes on.
    """

    keeps_files = True

    def __init__(self, store: Store, belongs_to: Membership = ALONE) -> None:
        self._store = store
        self._belongs_to = belongs_to
        self._client: Any = None
        self._experiment_id = ""
        self._run_id: str | None = None
        self._buffer: list[Any] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._deadline = math.inf
        self._problems: list[str] = []
        self._sender = threading.Thread(target=self._send, name="dqnkit-tracking", daemon=True)

    @property
    def run_id(self) -> str | None:
        """See `Tracker`."""
        return self._run_id

    def start(self, record: RunRecord) -> None:
        """See `Tracker`."""
        trains = record.tags.get(KIND_TAG) not in {None, "comparison"}
        advice = ", or train without a record by --set tracking.enabled=false" if trains else ""
        with explained(self._store, advice):
            self._client = connect(self._store)
            self._experiment_id = experiment_id(self._client, self._store, record.experiment)
            set_stale_runs_right(self._client, experiment_names(self._client))
            if not self._continue_run(record):
                self._create_run(record)
        self._sender.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric  # mlflow is loaded by `start`

        now = int(time.time() * 1000)
        points = [Metric(k, float(v), now, step) for k, v in metrics.items() if not math.isnan(v)]
        with self._changed:
            self._buffer += points
            self._changed.notify()

    def artifacts(self, folder: Path) -> None:
        """See `Tracker`."""
        self._keep(folder, None)

    def policy(self, policy: PolicyFiles) -> None:
        """See `Tracker`."""
        from dqnkit.tracking import policy_model  # imports mlflow

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "policy"
            policy_model.write(policy, folder)
            self._keep(folder, "policy")

    def describe(self, markdown: str) -> None:
        """See `Tracker`."""
        if self._run_id is not None:
            self._attempt(
                "the description",
                lambda: self._client.set_tag(self._run_id, NOTE_TAG, markdown),
            )

    def finish(self, status: Status) -> list[str]:
        """See `Tracker`."""
        if self._run_id is None:
            return self._problems
        self._deadline = time.monotonic() + _FINISH_SECONDS
        self._closing.set()
        with self._changed:
            self._changed.notify()
        if self._sender.is_alive():
            self._sender.join(_FINISH_SECONDS)
        with self._changed:
            unsent, self._buffer = self._buffer, []
        if unsent:
            self._keep_unsent(unsent)
        self._attempt(
            f"the status {status}", lambda: self._client.set_terminated(self._run_id, str(status))
        )
        return self._problems

    def hints(self) -> dict[str, str]:
        """See `Tracker`."""
        if self._store.address is not None:
            return {"page": self._store.address + experiment_page(self._experiment_id)}
        return {"show it": as_typed(self._store.ui_command)}

    def _continue_run(self, record: RunRecord) -> bool:
        """Takes up the record that this one continues; False if there is none."""
        from mlflow.exceptions import MlflowException  # mlflow is loaded by `start`

        if record.continues is None:
            return False
        try:
            run = self._client.get_run(record.continues)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return False
            raise
        if run.info.lifecycle_stage == "deleted":
            return False
        self._run_id, self._experiment_id = run.info.run_id, run.info.experiment_id
        # First whose run it is, so that nobody takes it for one whose process has died.
        for key, value in (*record.tags.items(), (PROCESS_TAG, processes.identity())):
            self._client.set_tag(self._run_id, key, value)
        self._client.update_run(self._run_id, "RUNNING")
        return True

    def _create_run(self, record: RunRecord) -> None:
        from mlflow.entities import Param  # mlflow is loaded by `start`

        tags = {
            **record.tags,
            **self._belongs_to.tags,
            **({PARENT_TAG: self._belongs_to.parent} if self._belongs_to.parent else {}),
            PROCESS_TAG: processes.identity(),
            NOTE_TAG: record.description,
            "mlflow.source.name": "dqnkit",
            "mlflow.user": getpass.getuser(),
        }
        run = self._client.create_run(self._experiment_id, run_name=record.run_name, tags=tags)
        self._run_id = run.info.run_id
        self._client.log_batch(
            self._run_id, params=[Param(key, str(value)) for key, value in record.params.items()]
        )

    def _send(self) -> None:
        failures = 0
        while True:
            with self._changed:
                while not self._buffer and not self._closing.is_set():
                    self._changed.wait()
                points = self._buffer[:_BATCH]
            if not points:
                return
            try:
                self._client.log_batch(self._run_id, metrics=points)
            except Exception as error:  # whatever the store's trouble is, training goes on
                if time.monotonic() > self._deadline:
                    self._problems.append(f"metrics could not be sent: {first_line(error)}")
                    return
                self._pause(failures)
                failures += 1
            else:
                failures = 0
                with self._changed:
                    del self._buffer[: len(points)]

    def _pause(self, failures: int) -> None:
        """Waits before another try: longer each time, and never long once the run has ended."""
        seconds = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
        if self._closing.is_set():
            time.sleep(min(seconds, _RETRY_SECONDS[0]))
        else:
            self._closing.wait(seconds)

    def _keep(self, folder: Path, below: str | None) -> None:
        what = "the policy" if below else f"files {sorted(path.name for path in folder.iterdir())}"
        if not self._attempt(
            what, lambda: self._client.log_artifacts(self._run_id, str(folder), below)
        ):
            kept = self._unsent_folder() / "files" / (below or "")
            with contextlib.suppress(OSError):
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                self._problems.append(f"{what} wait in {kept}")

    def _keep_unsent(self, points: list[Any]) -> None:
        path = self._unsent_folder() / "metrics.jsonl"
        lines = [json.dumps([m.key, m.value, m.timestamp, m.step]) for m in points]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            self._problems.append(f"{len(lines)} metric points are lost: {first_line(error)}")
        else:
            self._problems.append(f"{len(lines)} metric points wait in {path}")

    def _unsent_folder(self) -> Path:
        home = self._store.artifacts.parent if self._store.artifacts else EMBEDDED
        return home / "unsent" / str(self._run_id)

    def _attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Tries a few times; a failure is told by `finish` and costs nothing else."""
        for failures in range(_ATTEMPTS):
            try:
                action()
            except Exception as error:  # a lost artifact must not cost a finished training
                if failures == _ATTEMPTS - 1:
                    self._problems.append(f"{what} could not be kept: {first_line(error)}")
                    break
                time.sleep(_RETRY_SECONDS[0])
            else:
                return True
        return False
