"""Heartbeats of trials, and trials whose process has died."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from dqnkit.processes import identity
from dqnkit.tuning import _optuna
from dqnkit.tuning.attributes import TrialAttr
from dqnkit.tuning.retrying_storage import GRACE_SECONDS, RetryingStorage

_FIRST_HEARTBEAT_ATTEMPTS = 5
_RETRY_SECONDS = 1.0
_UNOWNED_SECONDS = 30.0
"""Time after which a running trial that names no process counts as abandoned."""


class TrialHeartbeats:
    """Records heartbeats for this process's trials and finds trials whose process has died.

    A process of this host is dead if the operating system does not list it any more. A process of
    another host counts as dead when the heartbeats of its trial stop. Only databases record
    heartbeats; a journal is used by the processes of one host.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._storage = _optuna.heartbeat_storage_of(study)
        self._claimed: set[int] = set()
        self._lock = threading.Lock()
        self._has_thread = False
        self._unowned_since: dict[int, float] = {}
        self._last_failure = -math.inf

    def ask(self) -> optuna.Trial:
        """Return a new trial of the study, which the caller has to `claim`."""
        with warnings.catch_warnings():
            # Optuna warns that `Study.ask` records no heartbeats; `claim` does.
            warnings.filterwarnings("ignore", "Heartbeat of storage")
            return self._study.ask()

    def claim(self, trial: optuna.Trial) -> None:
        """Mark a trial as run by this process, and keep recording heartbeats for it."""
        if self._storage is not None:
            self._record_first(_optuna.trial_id(trial))
            self._keep_recording(_optuna.trial_id(trial))
        trial.set_user_attr(TrialAttr.PROCESS, identity.identity())

    def release(self, trial: FrozenTrial | optuna.Trial) -> None:
        """Stop recording heartbeats for a trial."""
        with self._lock:
            self._claimed.discard(_optuna.trial_id(trial))

    def abandoned(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials that are running although their process has died."""
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        if not running:
            return []
        stale: set[int] = set()
        if self._storage is not None and not self._storage_was_unavailable():
            stale = _optuna.stale_trial_ids(self._storage, self._study)
        stale -= self._claimed  # this process lives, even if its heartbeats did not arrive
        return [each for each in running if _optuna.trial_id(each) in stale or self._is_dead(each)]

    def _storage_was_unavailable(self) -> bool:
        """Return whether the storage failed recently: other processes could not reach it either."""
        backend = _optuna.backend_of(_optuna.storage_of(self._study))
        last = backend.last_failure if isinstance(backend, RetryingStorage) else -math.inf
        return time.monotonic() - max(last, self._last_failure) < GRACE_SECONDS

    def _is_dead(self, trial: FrozenTrial) -> bool:
        process = trial.user_attrs.get(TrialAttr.PROCESS)
        if process is not None:
            # Another machine may have the same host name. Its heartbeats decide, if there are any.
            is_known = self._storage is None or identity.is_here(process)
            return is_known and identity.is_dead(process)
        # The process died between two writes to the storage, or is about to make the second one.
        # The start time of the trial is no help, because it is by the clock of another host.
        first_seen = self._unowned_since.setdefault(trial.number, time.monotonic())
        return time.monotonic() - first_seen > _UNOWNED_SECONDS

    def _record_first(self, trial_id: int) -> None:
        """Record the first heartbeat: without one, a trial never counts as stale."""
        for _ in range(_FIRST_HEARTBEAT_ATTEMPTS):
            if self._record(trial_id):
                return
            time.sleep(_RETRY_SECONDS)

    def _keep_recording(self, trial_id: int) -> None:
        with self._lock:
            self._claimed.add(trial_id)
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(
                    target=self._record_all, name="dqnkit-heartbeats", daemon=True
                ).start()

    def _record_all(self) -> None:
        """Record heartbeats at intervals until no trial is claimed."""
        interval = self._storage.get_heartbeat_interval() if self._storage else None
        while True:
            time.sleep(interval or 0)
            with self._lock:
                claimed = sorted(self._claimed)
                self._has_thread = bool(claimed)
            if not claimed:
                return
            for trial_id in claimed:
                self._record(trial_id)

    def _record(self, trial_id: int) -> bool:
        if self._storage is None:
            return True
        try:
            self._storage.record_heartbeat(trial_id)
        except Exception:  # the next heartbeat may arrive
            self._last_failure = time.monotonic()
            return False
        return True
