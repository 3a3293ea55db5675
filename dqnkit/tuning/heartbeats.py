"""Which process runs a trial, and whether it still does."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Sequence

import optuna
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState

from dqnkit.processes import identity
from dqnkit.tuning.rdb import GRACE_SECONDS, PatientStorage

PROCESS = "process"
"""Attribute of a trial: whose it is (see `processes`)."""
_FIRST_BEATS = 5
"""Tries for the first heartbeat of a trial."""
_UNOWNED_SECONDS = 30.0
"""After which a trial that says of no process that it runs it is run by none."""


class TrialHeartbeats:
    """Says of the trials that this process runs that it does, and finds those that nobody runs.

    A process on this host is dead if the system does not know it any more. One on another host is
    so if its trials' heartbeats stop, which a database keeps; a journal is of one host.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        # Optuna's public way to heartbeats is its own loop of trials.
        self._hearts = _hearts(study)
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._beats = False
        self._unowned: dict[int, float] = {}
        self._last_failure = -math.inf

    def ask(self) -> optuna.Trial:
        """A new trial of the study; to be held."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage")  # which are ours
            return self._study.ask()

    def hold(self, trial: optuna.Trial) -> None:
        """This process runs a trial from now on."""
        if self._hearts is not None:
            # Without a first one nobody would miss the second.
            for _ in range(_FIRST_BEATS):
                if self._record(trial._trial_id):
                    break
                time.sleep(1.0)
            self._keep_beating(trial._trial_id)
        trial.set_user_attr(PROCESS, identity.identity())

    def let_go(self, trial: FrozenTrial | optuna.Trial) -> None:
        """It does not any more."""
        with self._lock:
            self._held.discard(trial._trial_id)

    def abandoned(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the trials that run, but whose process has died."""
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        if not running:
            return []
        silent: set[int] = set()
        if self._hearts is not None and not self._storage_was_away():
            silent = set(self._hearts._get_stale_trial_ids(self._study._study_id))
        silent -= self._held  # ours, whatever became of their heartbeats
        return [each for each in running if each._trial_id in silent or self._is_dead(each)]

    def _storage_was_away(self) -> bool:
        """Whether it did not answer just now: others could not say that they live, either."""
        away = getattr(self._study._storage, "_backend", None)
        last = away.last_failure if isinstance(away, PatientStorage) else -math.inf
        return time.monotonic() - max(last, self._last_failure) < GRACE_SECONDS

    def _is_dead(self, trial: FrozenTrial) -> bool:
        process = trial.user_attrs.get(PROCESS)
        if process is not None:
            # Another machine may have our name; its heartbeat says whether it lives.
            knows = self._hearts is None or identity.is_here(process)
            return knows and identity.is_dead(process)
        # It died between two lines of the storage, or is just about to write the second. When it
        # began is by a clock that may not be ours.
        first_seen = self._unowned.setdefault(trial.number, time.monotonic())
        return time.monotonic() - first_seen > _UNOWNED_SECONDS

    def _keep_beating(self, trial_id: int) -> None:
        with self._lock:
            self._held.add(trial_id)
            if not self._beats:
                self._beats = True
                threading.Thread(target=self._beat, name="dqnkit-alive", daemon=True).start()

    def _beat(self) -> None:
        interval = self._hearts.get_heartbeat_interval() if self._hearts else None
        while True:
            time.sleep(interval or 0)
            with self._lock:
                held = sorted(self._held)
                self._beats = bool(held)
            if not held:
                return
            for trial_id in held:
                self._record(trial_id)

    def _record(self, trial_id: int) -> bool:
        if self._hearts is None:
            return True
        try:
            self._hearts.record_heartbeat(trial_id)
        except Exception:  # the next beat may arrive
            self._last_failure = time.monotonic()
            return False
        return True


def _hearts(study: optuna.Study) -> BaseHeartbeat | None:
    storage = study._storage
    if isinstance(storage, BaseHeartbeat) and is_heartbeat_enabled(storage):
        return storage
    return None
