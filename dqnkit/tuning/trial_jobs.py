"""The trials of a search as jobs for a pool."""

from __future__ import annotations

import contextlib
import math
import time
from enum import Enum, auto

from optuna.trial import FrozenTrial, TrialState
from typing_extensions import override

from dqnkit.errors import ConfigError, StudyError, TrackingError
from dqnkit.events import (
    Evaluated,
    Listener,
    RunEnded,
    RunFailed,
    RunStarted,
    RunStatus,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkerDied,
)
from dqnkit.processes import identity
from dqnkit.runs.result import TrainResult
from dqnkit.tuning.attributes import INTERRUPTED, TrialAttr
from dqnkit.tuning.failure_streak import FailureStreak
from dqnkit.tuning.running_trial import RunningTrial, TrialRecords
from dqnkit.tuning.standing import standing_of
from dqnkit.tuning.study import ClaimedTrial, SharedStudy, TrialTakenOverError
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.dispatcher import Jobs
from dqnkit.workers.orders import PrunerDecision, StopRun, Task
from dqnkit.workers.pool import WorkerMessage

_REAP_SECONDS = 10.0
"""Minimum time between two searches for trials whose process has died.

It must be much shorter than `PATIENCE_SECONDS - GRACE_SECONDS`: the trials of a host that is cut
off are then taken over before that host gives up waiting for the database.
"""


class Pruning(Enum):
    """Points in time at which trials report values and may be pruned."""

    BY_EVALUATION = auto()
    BY_SEED = auto()
    NEVER = auto()
    """Trials report after each evaluation, and are not pruned."""


class TrialJobs(Jobs):
    """Trains trials until as many have ended as the study is to have."""

    def __init__(
        self,
        study: SharedStudy,
        study_run: StudyRun,
        listener: Listener,
        pruning: Pruning,
        deadline: float = math.inf,
    ) -> None:
        """Make the jobs.

        Args:
          study: Source of the trials.
          study_run: Parent of the runs.
          listener: Receives the events of the trials.
          pruning: Points in time at which trials report values and may be pruned.
          deadline: Time of `time.monotonic` after which no trial is started.
        """
        self._study = study
        self._study_run = study_run
        self._records = TrialRecords(study.name, study_run)
        self._listener = listener
        self._pruning = pruning
        self._deadline = deadline
        self._running: dict[str, RunningTrial] = {}
        """Trials by the name of the run that is training."""
        self._between_seeds: list[RunningTrial] = []
        self._failures = FailureStreak()
        self._reaped_at = time.monotonic()
        self._reported_waits: list[str] = []
        self._has_told_of_repeats = False
        self.problems: list[str] = []
        """Descriptions of failed trials, and of what could not be recorded."""

    @property
    @override
    def is_done(self) -> bool:
        if self._running or self._between_seeds:
            return False
        return self._study.is_done or time.monotonic() >= self._deadline

    @override
    def next_task(self) -> Task | None:
        if self._between_seeds:
            return self._next_seed(self._between_seeds.pop())
        if self._failures.has_reached_limit:
            self._give_up()
            return None
        if time.monotonic() >= self._deadline:
            return None
        has_reaped = self._reap_if_due()
        try:
            claim = self._study.ask()
            while claim is not None and self._take_result(claim):
                claim = self._study.ask() if time.monotonic() < self._deadline else None
        except TrialTakenOverError as error:
            self._warn(str(error))
            return None
        if claim is not None:
            return self._begin_or_give_back(claim)
        if has_reaped and not self._running:
            self._report_waits()
        return None

    def _begin_or_give_back(self, claim: ClaimedTrial) -> Task | None:
        try:
            return self._begin(claim)
        except BaseException:  # no other part of the program knows the claim yet
            self._study.fail(claim.number, INTERRUPTED, retry=True, is_attempt=False)
            raise

    @override
    def handle(self, message: WorkerMessage) -> None:
        task, event = message.task, message.event
        if task is None or task.run_name not in self._running:
            return
        trial = self._running[task.run_name]
        match event:
            case RunStarted():
                self._started(trial, event)
            case Evaluated():
                awaits_verdict = task.awaits_decision(event.evaluation)
                proceed = self._evaluated(trial, event, awaits_verdict=awaits_verdict)
                if awaits_verdict and not trial.is_taken_over:
                    message.worker.send(PrunerDecision(proceed))
            case RunEnded():
                del self._running[task.run_name]
                self._ended(trial, event.result, task.config.training.seed)
            case RunFailed(is_interrupted=True):
                del self._running[task.run_name]
                self._interrupted(trial)
            case RunFailed() | WorkerDied():
                del self._running[task.run_name]
                is_external = isinstance(event, WorkerDied) or event.retryable
                self._failed(trial, event.cause, is_external=is_external)
        if trial.is_taken_over and isinstance(event, RunStarted | Evaluated):
            message.worker.send(StopRun())

    def reap(self) -> None:
        """Fail the trials whose process has died, so that they are repeated, and end their runs."""
        self._reaped_at = time.monotonic()
        reaped = self._study.reap()
        if reaped:
            self._study_run.take_over()  # the dead process may have owned the study's run
        for trial in reaped:
            where = _on_other_host(trial.user_attrs.get(TrialAttr.PROCESS))
            self._warn(f"trial {trial.number} is repeated: its process has died{where}")
            self._records.end_orphans(trial.number)

    def end_orphans(self) -> None:
        """End runs of interrupted trials that a dead process has left RUNNING."""
        for trial in self._study.trials():
            if trial.user_attrs.get(TrialAttr.CAUSE) == INTERRUPTED:
                self._records.end_orphans(trial.number)

    def abandon(self) -> None:
        """Mark the trials in training as interrupted, because their workers are gone."""
        for trial in [*self._running.values(), *self._between_seeds]:
            with contextlib.suppress(StudyError):  # perhaps the reason why they are gone
                self._interrupted(trial)
        self._running, self._between_seeds = {}, []

    # -- The life of a trial

    def _begin(self, claim: ClaimedTrial) -> Task | None:
        """Return the first task of a trial; None if it fails before it can be trained."""
        definition = self._study.definition
        first = definition.config.training.seed
        seeds = list(range(first, first + definition.seeds_per_trial))
        try:
            config = definition.space.configure(definition.config, claim.values)
        except ConfigError as error:  # values that are valid one by one but not together
            self._count_failure(claim, str(error), is_external=False)
            return None
        trial = RunningTrial(claim, config, f"{self._study.name}-t{claim.number:03d}", seeds)
        try:
            if len(seeds) > 1:
                self._records.open_group(trial)
        except TrackingError as error:
            self._count_failure(claim, str(error), is_external=True)
            return None
        return self._next_seed(trial)

    def _take_result(self, claim: ClaimedTrial) -> bool:
        """End a trial by the result of an earlier one with its values; return False if none has."""
        try:
            earlier = self._study.repeated(claim)
            return earlier is not None and self._end_as(claim, earlier)
        except BaseException:  # no other part of the program knows the claim yet
            self._study.fail(claim.number, INTERRUPTED, retry=True, is_attempt=False)
            raise

    def _end_as(self, claim: ClaimedTrial, earlier: FrozenTrial) -> bool:
        """End a trial as an earlier one has ended; return True."""
        for key in (TrialAttr.MEAN, TrialAttr.RUN_ID):
            if key in earlier.user_attrs:
                self._study.set_trial_attr(claim, key, earlier.user_attrs[key])
        self._study.set_trial_attr(claim, TrialAttr.REPEATS, earlier.number)
        if not self._study.tell(claim, earlier.value):
            self._warn(str(TrialTakenOverError(claim.number)))
            return True
        if not self._has_told_of_repeats:
            self._has_told_of_repeats = True
            self._warn(
                f"trial {claim.number} has the values of trial {earlier.number} and takes its "
                "result, and so will others: the space has few configurations, of which `sampler` "
                "grid trains each once"
            )
        standing = standing_of(self._study)
        self._listener(TrialEnded(claim.number, "complete", earlier.value, standing))
        return True

    def _next_seed(self, trial: RunningTrial) -> Task:
        waits_for_pruner = self._pruning is Pruning.BY_EVALUATION
        task = self._records.make_task(trial, trial.seeds.pop(0), waits_for_pruner=waits_for_pruner)
        trial.reports = 0
        self._running[task.run_name] = trial
        self._listener(TrialStarted(task.run_name, trial.claim.number, trial.claim.values))
        return task

    def _started(self, trial: RunningTrial, event: RunStarted) -> None:
        if trial.group is None:
            trial.run_id = event.run_id
        if trial.run_id is not None:
            is_own = self._study.set_trial_attr(trial.claim, TrialAttr.RUN_ID, trial.run_id)
            trial.is_taken_over = not is_own

    def _evaluated(self, trial: RunningTrial, event: Evaluated, *, awaits_verdict: bool) -> bool:
        """Report an evaluation; return whether the run continues."""
        if event.evaluation.iteration == 0 or self._pruning is Pruning.BY_SEED:
            return True
        value, step = trial.next_report(event.late.summary.iqm)
        trial.is_taken_over = not self._study.report(trial.claim, value, step)
        if trial.is_taken_over:
            return False
        # At its end a run awaits no decision, but pruning still saves the other seeds.
        is_undecided = awaits_verdict or bool(trial.seeds)
        may_prune = self._pruning is Pruning.BY_EVALUATION and is_undecided
        if may_prune and trial.claim.trial.should_prune():
            trial.is_pruned = True
        return not trial.is_pruned

    def _ended(self, trial: RunningTrial, result: TrainResult, seed: int) -> None:
        self.problems += result.problems
        if result.status is RunStatus.KILLED or trial.is_taken_over:
            self._interrupted(trial)
            return
        if trial.is_pruned:
            self._close(trial, TrialState.PRUNED)
            return
        trial.add(seed, result)
        if self._pruning is Pruning.BY_SEED:
            self._study.report(trial.claim, trial.values[-1], len(trial.values) - 1)
            trial.is_pruned = bool(trial.seeds) and trial.claim.trial.should_prune()
        if trial.seeds and not trial.is_pruned:
            self._between_seeds.append(trial)
        else:
            self._close(trial, TrialState.PRUNED if trial.is_pruned else TrialState.COMPLETE)

    def _close(self, trial: RunningTrial, state: TrialState) -> None:
        """Tell the study the result of a trial that counts, and close its record."""
        value = None
        if state is TrialState.COMPLETE:
            value = trial.value
            self._study.set_trial_attr(trial.claim, TrialAttr.MEAN, trial.mean)
        if not self._study.tell(trial.claim, value):
            trial.is_taken_over = True
            self._interrupted(trial)
            return
        self._failures.reset()
        number, name = trial.claim.number, state.name.lower()
        self.problems += self._records.close(trial, name, RunStatus.FINISHED)
        value = self._study.trials()[number].value
        self._listener(TrialEnded(number, name, value, standing_of(self._study)))

    def _failed(self, trial: RunningTrial, cause: str, *, is_external: bool) -> None:
        self.problems += self._records.close(trial, "failed", RunStatus.FAILED, cause)
        self._count_failure(trial.claim, cause, is_external=is_external)

    def _interrupted(self, trial: RunningTrial) -> None:
        number = trial.claim.number
        if trial.is_taken_over:
            self._study.release(trial.claim)
            self._warn(str(TrialTakenOverError(number)))
        else:
            self._study.fail(number, INTERRUPTED, retry=True, is_attempt=False)
        self.problems += self._records.close(trial, INTERRUPTED, RunStatus.KILLED)

    # -- Failures

    def _count_failure(self, claim: ClaimedTrial, cause: str, *, is_external: bool) -> None:
        is_repeated = self._study.fail(claim.number, cause, retry=is_external)
        if is_repeated is None:
            self._warn(str(TrialTakenOverError(claim.number)))
            return
        consequence = "it is repeated" if is_repeated else "another takes its place"
        problem = f"trial {claim.number} failed, {consequence}: {cause}"
        self._warn(problem)
        self.problems.append(problem)
        self._listener(TrialEnded(claim.number, "failed", None, standing_of(self._study)))
        self._failures.add(claim.number, cause, is_external=is_external)
        if self._failures.has_reached_limit:
            self._give_up()

    def _give_up(self) -> None:
        """Raise StudyError, once the last trial in training has ended."""
        if not self._running:
            raise self._failures.make_error()

    # -- Other processes

    def _reap_if_due(self) -> bool:
        is_due = time.monotonic() - self._reaped_at >= _REAP_SECONDS
        if is_due:
            self.reap()
        return is_due

    def _report_waits(self) -> None:
        """Warn that the search waits for trials of other processes, once for the same trials."""
        waits = [
            f"trial {trial.number}{_on_other_host(trial.user_attrs.get(TrialAttr.PROCESS))}"
            for trial in self._study.running_elsewhere()
        ]
        if waits and waits != self._reported_waits:
            self._reported_waits = waits
            self._warn(f"waiting for trials of other processes: {', '.join(waits)}")

    def _warn(self, text: str) -> None:
        self._listener(Warned(text))


def _on_other_host(process: str | None) -> str:
    """Return ` on HOST` if a process is on another host, else an empty text."""
    host = identity.host(process or "")
    return f" on {host}" if host and host != identity.host(identity.identity()) else ""
