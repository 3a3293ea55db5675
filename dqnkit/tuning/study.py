"""An Optuna study in which exactly N trials end, however many processes work on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from dqnkit.config.sections import Config
from dqnkit.processes import identity
from dqnkit.tuning import _optuna
from dqnkit.tuning.attributes import INTERRUPTED, TrialAttr
from dqnkit.tuning.definition import StudyDefinition
from dqnkit.tuning.heartbeats import TrialHeartbeats
from dqnkit.tuning.space import Params, Values
from dqnkit.tuning.storage import StudyStorage
from dqnkit.workers.seed_jobs import ATTEMPTS

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process runs."""

    trial: optuna.Trial
    values: Values
    """Configuration values of the trial, by key."""

    @property
    def number(self) -> int:
        """Number of the trial in its study."""
        return self.trial.number


class TrialTakenOverError(Exception):
    """Another process considered this one dead, and runs its trial again."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"trial {number} was taken over by another process, which considered this one dead"
        )


@dataclass(frozen=True)
class StudyPlan:
    """Number of trials, and how their parameters are chosen."""

    total: int
    """Number of trials that are to end, complete or pruned."""
    make_sampler: Callable[[int], BaseSampler]
    """Makes a sampler from a salt; samplers with different salts draw different parameters."""
    pruner: BasePruner
    grid: Sequence[Params] = ()
    """Points of a grid, in order. If there are none, the sampler chooses."""
    retrain_repeats: bool = False
    """True to train trials whose values an earlier trial had."""


class SharedStudy:
    """A study that this process works on, possibly together with others.

    A trial is claimed while it waits or runs, and once it is complete or pruned; a failed trial is
    not. The storage numbers trials consecutively across processes. A process therefore knows that
    its own trial is one too many if N trials with lower numbers are claimed.
    """

    def __init__(
        self,
        study: optuna.Study,
        definition: StudyDefinition,
        plan: StudyPlan,
        storage: StudyStorage,
    ) -> None:
        self.study = study
        self.definition = definition
        self._storage = storage
        self._max_total = plan.total
        self._grid = plan.grid
        self._retrain_repeats = plan.retrain_repeats
        self._heartbeats = TrialHeartbeats(study)

    # -- State

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study.study_name

    @property
    def total(self) -> int:
        """Number of trials that are to end; at most the number of grid points that can train."""
        if not self._grid:
            return self._max_total
        given_up = _given_up(self.trials())
        return min(self._max_total, sum(point not in given_up for point in self._grid))

    @property
    def is_done(self) -> bool:
        """True if all trials have ended."""
        return len(self.ended()) >= self.total

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number. They are shared with Optuna and must not be changed."""
        return self.study.get_trials(deepcopy=False)

    def ended(self) -> list[FrozenTrial]:
        """Return the trials that are complete or pruned."""
        return [trial for trial in self.trials() if trial.state in _ENDED]

    def values(self, number: int) -> Values:
        """Return the configuration values of a trial, by key."""
        return self.definition.space.suggest(optuna.trial.FixedTrial(self.trials()[number].params))

    def configuration(self, number: int) -> Config:
        """Return the configuration of a trial."""
        return self.definition.space.configure(self.definition.config, self.values(number))

    # -- Trials of this process

    def ask(self) -> ClaimedTrial | None:
        """Claim the next trial; return None while all N trials are claimed.

        Raises:
          TrialTakenOverError: If another process failed the trial before it was claimed, because
            the storage did not answer this process for so long.
        """
        trials = self.trials()
        if not any(trial.state is TrialState.WAITING for trial in trials):
            if _count_claimed(trials) >= self.total:
                return None
            self._enqueue_grid_point(trials)
        trial = self._heartbeats.ask()
        try:
            self._heartbeats.claim(trial)
            if _count_claimed(self.trials()[: trial.number]) >= self.total:
                self.fail(trial.number, INTERRUPTED)  # other processes were faster
                return None
            return ClaimedTrial(trial, self.definition.space.suggest(trial))
        except UpdateFinishedTrialError as error:
            self._heartbeats.release(trial)
            raise TrialTakenOverError(trial.number) from error
        except BaseException:  # no other part of the program knows the trial
            self.fail(trial.number, INTERRUPTED, retry=True, is_attempt=False)
            raise

    def repeated(self, claim: ClaimedTrial) -> FrozenTrial | None:
        """Return the complete trial whose values a trial repeats; None if it is to be trained."""
        if self._retrain_repeats:
            return None
        params = claim.trial.params
        for trial in self.trials()[: claim.number]:
            if trial.state is TrialState.COMPLETE and trial.params == params:
                return trial
        return None

    def report(self, claim: ClaimedTrial, value: float, step: int) -> bool:
        """Report an intermediate value; return whether the trial is still this process's."""
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.report(value, step)
            return True
        return False

    def set_trial_attr(self, claim: ClaimedTrial, key: str, value: Any) -> bool:
        """Set an attribute of a trial; return whether the trial is still this process's."""
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.set_user_attr(key, value)
            return True
        return False

    def tell(self, claim: ClaimedTrial, value: float | None) -> bool:
        """End a trial as complete with a value, or as pruned if the value is None.

        Returns:
          Whether the trial was still this process's. Another process fails the trial and runs it
          again if it considers this process dead.
        """
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        try:
            self.study.tell(claim.trial, value, state)
        except (UpdateFinishedTrialError, ValueError):
            stored = self.trials()[claim.number].state
            if not stored.is_finished():
                raise
            return stored is state  # true if only the answer to a first call was lost
        finally:
            self._heartbeats.release(claim.trial)
        return True

    def fail(
        self, number: int, cause: str, *, retry: bool = False, is_attempt: bool = True
    ) -> bool | None:
        """Mark a running trial as failed.

        Args:
          number: Number of the trial.
          cause: Cause of the failure.
          retry: True to try the same parameters again, up to `ATTEMPTS` times.
          is_attempt: True if the trial counts as an attempt; an interrupted one does not.

        Returns:
          Whether the same parameters will be tried again; None if another process had already
          ended the trial.
        """
        trial = self.trials()[number]
        self._heartbeats.release(trial)
        try:
            _optuna.set_trial_attr(self.study, trial, TrialAttr.CAUSE, cause)
            self.study.tell(number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return None
        attempt = int(trial.user_attrs.get(TrialAttr.ATTEMPT, 1)) + is_attempt
        if not retry or attempt > ATTEMPTS:
            return False
        self.study.enqueue_trial(_params(trial), user_attrs={TrialAttr.ATTEMPT: attempt})
        return True

    def release(self, claim: ClaimedTrial) -> None:
        """Stop recording heartbeats for a trial that another process has taken over."""
        self._heartbeats.release(claim.trial)

    # -- Trials of other processes

    def reap(self) -> list[FrozenTrial]:
        """Fail the trials whose process has died, so that they are tried again; return them."""
        return [
            trial
            for trial in self._heartbeats.abandoned(self.trials())
            if self.fail(trial.number, INTERRUPTED, retry=True, is_attempt=False)
        ]

    def running_elsewhere(self) -> list[FrozenTrial]:
        """Return the trials that other processes run."""
        own = identity.identity()
        return [
            trial
            for trial in self.trials()
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(TrialAttr.PROCESS) != own
        ]

    def other_active_process(self) -> str | None:
        """Return a living process, other than this one, that runs a trial; None if none does."""
        running = self.running_elsewhere()
        dead = {trial.number for trial in self._heartbeats.abandoned(running)}
        processes = [
            trial.user_attrs.get(TrialAttr.PROCESS) for trial in running if trial.number not in dead
        ]
        return next((process for process in processes if process is not None), None)

    # -- The study itself

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process of the search at a time run the body, which must be short."""
        with contextlib.ExitStack() as stack:
            with self._storage.wrap_errors():
                stack.enter_context(self._storage.lock(self.name))
            yield

    def set_attr(self, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self.study.set_user_attr(key, value)

    def get_attr(self, key: str) -> Any:
        """Return an attribute of the study; None if it is not set."""
        return self.study.user_attrs.get(key)

    def _enqueue_grid_point(self, trials: Sequence[FrozenTrial]) -> None:
        """Enqueue the first grid point that no trial has, so that the next `ask` returns it."""
        taken = [_params(trial) for trial in trials if trial.state is not TrialState.FAIL]
        taken += _given_up(trials)
        point = next((each for each in self._grid if each not in taken), None)
        if point is not None:
            self.study.enqueue_trial(point)


def _params(trial: FrozenTrial) -> Params:
    """Return all parameters of a trial, including fixed ones that it did not live to suggest."""
    return {**_optuna.fixed_params(trial), **trial.params}


def _given_up(trials: Sequence[FrozenTrial]) -> list[Params]:
    """Return the parameters of trials that failed for good."""
    failed = [t for t in trials if t.state is TrialState.FAIL and t.user_attrs.get(TrialAttr.CAUSE)]
    others = [_params(t) for t in trials if t.state is not TrialState.FAIL]
    causes = [_params(t) for t in failed if t.user_attrs[TrialAttr.CAUSE] != INTERRUPTED]
    return [params for params in causes if params not in others]


def _count_claimed(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state is not TrialState.FAIL for trial in trials)
