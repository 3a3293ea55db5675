"""A lock that one process of a search holds at a time, and that ends with its process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from dqnkit.processes import identity
from dqnkit.tuning import _optuna
from dqnkit.tuning.attributes import TrialAttr
from dqnkit.tuning.heartbeats import TrialHeartbeats
from dqnkit.tuning.storage import COMPANION_SEPARATOR

CONCLUSION = "conclusion"
"""Name of the lease for confirming the best trials and registering the winner."""


class Lease:
    """A lock for the processes that work on a study, on any host.

    Each process that tries to acquire the lease adds a trial to a companion study. Storages number
    trials consecutively, so if two processes try at the same time, the lower number holds the
    lease and the other process withdraws. The trial of a process that has died is found by its
    heartbeats, like any other trial.
    """

    def __init__(self, study: optuna.Study, name: str) -> None:
        """Open the companion study.

        Args:
          study: The study that the lease belongs to.
          name: Name of the work that the lease protects.
        """
        self._study = optuna.create_study(
            storage=_optuna.storage_of(study),
            study_name=f"{study.study_name}{COMPANION_SEPARATOR}{name}",
            load_if_exists=True,
        )
        self._heartbeats = TrialHeartbeats(self._study)
        self._own_trial: optuna.Trial | None = None
        self.holder: str | None = None
        """Process that held the lease when this process last failed to acquire it."""

    @contextlib.contextmanager
    def try_acquire(self) -> Iterator[bool]:
        """Try to acquire the lease until the end of the block; yield whether that worked."""
        self._own_trial = self._acquire()
        try:
            yield self._own_trial is not None
        finally:
            if self._own_trial is not None:
                self._end(self._own_trial)
                self._own_trial = None

    @property
    def is_held(self) -> bool:
        """True if this process still holds the lease, which it loses if it is considered dead."""
        return self._own_trial is not None and any(
            trial.number == self._own_trial.number for trial in self._running()
        )

    @property
    def other_holder(self) -> str | None:
        """The living process other than this one that holds the lease; None if there is none."""
        running = self._running()
        dead = {trial.number for trial in self._heartbeats.abandoned(running)}
        processes = [
            trial.user_attrs.get(TrialAttr.PROCESS) for trial in running if trial.number not in dead
        ]
        own = identity.identity()
        return next((each for each in processes if each not in {None, own}), None)

    def _acquire(self) -> optuna.Trial | None:
        for trial in self._heartbeats.abandoned(self._running()):
            self._end(trial)
        if self._is_held_by_one_of(self._running()):
            return None
        own = self._heartbeats.ask()
        try:
            self._heartbeats.claim(own)
        except UpdateFinishedTrialError:  # another process considered this one dead
            return None
        earlier = [trial for trial in self._running() if trial.number < own.number]
        if self._is_held_by_one_of(earlier):
            self._end(own)
            return None
        return own

    def _is_held_by_one_of(self, trials: list[FrozenTrial]) -> bool:
        if trials:
            self.holder = trials[0].user_attrs.get(TrialAttr.PROCESS)
        return bool(trials)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _end(self, trial: optuna.Trial | FrozenTrial) -> None:
        self._heartbeats.release(trial)
        # Another process has ended the trial if it considered this one dead.
        with contextlib.suppress(UpdateFinishedTrialError, ValueError):
            self._study.tell(trial.number, state=TrialState.FAIL)
