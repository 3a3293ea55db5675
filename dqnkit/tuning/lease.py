"""A right that one process has at a time, on whatever host, and that does not die with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from dqnkit.processes import identity
from dqnkit.tuning.heartbeats import PROCESS, TrialHeartbeats
from dqnkit.tuning.storage import COMPANION

CONCLUSION = "conclusion"
"""What one process does after a search."""


class Lease:
    """Whose turn it is, in a study beside another.

    A process that wants it makes a trial there. Storages number those one after another, so of
    two that come together the lower number has it, and the other withdraws; and a trial whose
    process has died is found like any other.
    """

    def __init__(self, study: optuna.Study, what: str) -> None:
        """Opens it.

        Args:
          study: The one that it stands beside.
          what: There is to be done.
        """
        self._study = optuna.create_study(
            storage=study._storage,
            study_name=f"{study.study_name}{COMPANION}{what}",
            load_if_exists=True,
        )
        self._liveness = TrialHeartbeats(self._study)
        self._mine: optuna.Trial | None = None
        self.holder: str | None = None
        """The process that had it when it was asked for last (see `processes`)."""

    @contextlib.contextmanager
    def taken(self) -> Iterator[bool]:
        """Takes it; whether this process has it, until the end of the block."""
        self._mine = self._take()
        try:
            yield self._mine is not None
        finally:
            if self._mine is not None:
                self._end(self._mine)
                self._mine = None

    @property
    def is_mine(self) -> bool:
        """Whether this process has it still: one that seems dead loses it."""
        return self._mine is not None and any(
            trial.number == self._mine.number for trial in self._running()
        )

    @property
    def of_another(self) -> str | None:
        """The living process that has it, if it is not this one; None if there is none."""
        running = self._running()
        dead = {trial.number for trial in self._liveness.abandoned(running)}
        owners = [t.user_attrs.get(PROCESS) for t in running if t.number not in dead]
        mine = identity.identity()
        return next((each for each in owners if each not in {None, mine}), None)

    def _take(self) -> optuna.Trial | None:
        for trial in self._liveness.abandoned(self._running()):
            self._end(trial)
        if self._is_anothers(self._running()):
            return None
        mine = self._liveness.ask()
        try:
            self._liveness.hold(mine)
        except UpdateFinishedTrialError:  # this process seemed dead for a moment
            return None
        earlier = [trial for trial in self._running() if trial.number < mine.number]
        if self._is_anothers(earlier):
            self._end(mine)
            return None
        return mine

    def _is_anothers(self, trials: list[FrozenTrial]) -> bool:
        if trials:
            self.holder = trials[0].user_attrs.get(PROCESS)
        return bool(trials)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _end(self, trial: optuna.Trial | FrozenTrial) -> None:
        self._liveness.let_go(trial)
        with contextlib.suppress(UpdateFinishedTrialError, ValueError):  # taken for dead
            self._study.tell(trial.number, state=TrialState.FAIL)
