"""The trials of a search as jobs for a pool."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from optuna.trial import TrialState
from typing_extensions import override

from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError, StudyError, TrackingError
from dqnkit.evaluation.aggregates import interquartile_mean
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
from dqnkit.tracking.names import Kind, Tag
from dqnkit.tracking.tracker import ParentRun
from dqnkit.tuning.heartbeats import PROCESS
from dqnkit.tuning.standing import standing_of
from dqnkit.tuning.study import CAUSE, INTERRUPTED, MEAN, RUN, ClaimedTrial, SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.dispatcher import Jobs
from dqnkit.workers.orders import Interrupt, Task, Verdict
from dqnkit.workers.pool import WorkerMessage
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult

_FAULTS_IN_A_ROW = 5
"""External failures in a row after which the search is given up."""
_FAILURES_IN_A_ROW = 20
"""Failures of any kind in a row after which the search is given up."""
_REAP_SECONDS = 10.0
"""Time between two searches for dead trials while there is nothing else to do."""
_REAP_BUSY_SECONDS = 60.0
"""Time between two searches for dead trials while there is."""


class Pruning(Enum):
    """When trials report values, and may be pruned."""

    BY_EVALUATION = auto()
    BY_SEED = auto()
    NEVER = auto()
    """Trials report after each evaluation, and are not pruned."""


@dataclass
class _RunningTrial:
    """A trial in training, seed by seed."""

    claim: ClaimedTrial
    config: Config
    name: str
    seeds: list[int]
    """Seeds that are still to be trained."""
    group: SeedGroup | None = None
    """Parent run of a trial with several seeds."""
    run_id: str | None = None
    """Id of the trial's run."""
    values: list[float] = field(default_factory=list)
    """Score of each seed that is done."""
    means: list[float] = field(default_factory=list)
    reports: int = 0
    """Number of evaluations of the current seed."""
    pruned: bool = False
    lost: bool = False
    """True if another process took this one for dead and runs the trial again."""


class TrialJobs(Jobs):
    """Trains trials until as many have ended as the study wants."""

    def __init__(
        self,
        study: SharedStudy,
        record: StudyRun,
        listener: Listener,
        pruning: Pruning,
        deadline: float = math.inf,
    ) -> None:
        """Make the jobs.

        Args:
          study: The study that supplies trials.
          record: The study's run in MLflow.
          listener: Receives the events of the trials.
          pruning: When trials report and may be pruned.
          deadline: Time of `time.monotonic` after which no trial is started.
        """
        self._study = study
        self._record = record
        self._listener = listener
        self._pruning = pruning
        self._deadline = deadline
        self._running: dict[str, _RunningTrial] = {}
        """Trials by the name of the run that is training."""
        self._between_seeds: list[_RunningTrial] = []
        self._faults_in_a_row = 0
        self._failures_in_a_row = 0
        self._last_failure = ""
        self._reaped_at = time.monotonic()
        self._reported_waits: list[str] = []
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
        if self._is_hopeless:
            self._give_up()
            return None
        if time.monotonic() >= self._deadline:
            return None
        if time.monotonic() - self._reaped_at >= _REAP_BUSY_SECONDS:
            self.reap()
        claim = self._study.ask()
        if claim is None:
            self._look_at_other_processes()
            return None
        try:
            return self._begin(claim)
        except TrackingError as error:  # opening the parent run of a trial with several seeds
            self._count_failure(claim, str(error), retryable=True)
            return None
        except BaseException:  # no other process knows about the claim yet
            self._study.fail(claim.number, INTERRUPTED, again=True, counts=False)
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
                awaits_verdict = task.awaits_verdict(event.evaluation)
                proceed = self._evaluated(trial, event, awaits_verdict=awaits_verdict)
                if awaits_verdict and not trial.lost:
                    message.worker.send(Verdict(proceed))
            case RunEnded():
                del self._running[task.run_name]
                self._ended(trial, event.result, task.config.training.seed)
            case RunFailed() | WorkerDied():
                del self._running[task.run_name]
                retryable = isinstance(event, WorkerDied) or event.retryable
                self._failed(trial, event.cause, retryable=retryable)
        if trial.lost and isinstance(event, RunStarted | Evaluated):
            message.worker.send(Interrupt())

    def reap(self) -> None:
        """Repeat trials whose process has died, and end their runs."""
        self._reaped_at = time.monotonic()
        reaped = self._study.reap()
        if reaped:
            self._record.take_over()  # the dead process may have owned the study's run
        for trial in reaped:
            where = _elsewhere(trial.user_attrs.get(PROCESS))
            self._warn(f"trial {trial.number} is repeated: its process has died{where}")
            self._end_runs_of(trial.number)

    def end_orphans(self) -> None:
        """End runs of interrupted trials that a dead process has left RUNNING."""
        for trial in self._study.trials():
            if trial.user_attrs.get(CAUSE) == INTERRUPTED:
                self._end_runs_of(trial.number)

    def abandon(self) -> None:
        """Mark the trials in training as interrupted, because their workers are gone."""
        for trial in [*self._running.values(), *self._between_seeds]:
            with contextlib.suppress(StudyError):  # perhaps the reason why they are gone
                self._interrupted(trial)
        self._running, self._between_seeds = {}, []

    # -- The life of a trial

    def _begin(self, claim: ClaimedTrial) -> Task | None:
        study, definition = self._study, self._study.definition
        try:
            config = definition.space.configure(definition.config, claim.values)
        except ConfigError as error:  # values that are valid one by one but not together
            self._count_failure(claim, str(error), retryable=False)
            return None
        first = definition.config.training.seed
        seeds = list(range(first, first + definition.seeds_per_trial))
        trial = _RunningTrial(claim, config, f"{study.name}-t{claim.number:03d}", seeds)
        if len(seeds) > 1:
            record = GroupRecord(self._record.tracking_uri, self._parent(claim), Kind.TRIAL)
            trial.group = SeedGroup(config, trial.name, list(seeds), record)
            trial.group.start()
            trial.run_id = trial.group.run_id
        return self._next_seed(trial)

    def _next_seed(self, trial: _RunningTrial) -> Task:
        group, seed = trial.group, trial.seeds.pop(0)
        name = trial.name if group is None else f"{trial.name}-s{seed}"
        trial.reports = 0
        self._running[name] = trial
        self._listener(TrialStarted(name, trial.claim.number, trial.claim.values))
        return Task(
            config=trial.config.with_seed(seed),
            run_name=name,
            parent=self._parent(trial.claim) if group is None else group.parent,
            tracking_uri=self._record.tracking_uri,
            awaits_verdicts=self._pruning is Pruning.BY_EVALUATION,
        )

    def _parent(self, claim: ClaimedTrial) -> ParentRun:
        return ParentRun(self._record.run_id, self._tags(claim.number))

    def _tags(self, number: int) -> dict[str, str]:
        return {Tag.STUDY: self._study.name, Tag.TRIAL: str(number)}

    def _started(self, trial: _RunningTrial, event: RunStarted) -> None:
        if trial.group is None:
            trial.run_id = event.run_id
        if trial.run_id is not None:
            trial.lost = not self._study.note(trial.claim, RUN, trial.run_id)

    def _evaluated(self, trial: _RunningTrial, event: Evaluated, *, awaits_verdict: bool) -> bool:
        """Report an evaluation; return whether the run continues."""
        if event.evaluation.iteration == 0 or self._pruning is Pruning.BY_SEED:
            return True
        trial.reports += 1
        step = len(trial.values) * trial.config.num_evaluations + trial.reports
        value = _over_seeds([*trial.values, event.late.summary.iqm])
        trial.lost = not self._study.report(trial.claim, value, step)
        if trial.lost:
            return False
        # At its end a run awaits no verdict, but pruning may still save other seeds.
        undecided = awaits_verdict or bool(trial.seeds)
        may_prune = self._pruning is Pruning.BY_EVALUATION and undecided
        if may_prune and trial.claim.trial.should_prune():
            trial.pruned = True
        return not trial.pruned

    def _ended(self, trial: _RunningTrial, result: TrainResult, seed: int) -> None:
        self.problems += result.problems
        if result.status is RunStatus.KILLED or trial.lost:
            self._interrupted(trial)
            return
        if trial.pruned:
            self._close(trial, TrialState.PRUNED)
            return
        trial.values.append(result.late.summary.iqm)
        trial.means.append(result.late.summary.mean)
        if trial.group is not None:
            trial.group.add(SeedResult.from_run(seed, result))
        if self._pruning is Pruning.BY_SEED:
            self._study.report(trial.claim, trial.values[-1], len(trial.values) - 1)
            trial.pruned = bool(trial.seeds) and trial.claim.trial.should_prune()
        if trial.seeds and not trial.pruned:
            self._between_seeds.append(trial)
        else:
            self._close(trial, TrialState.PRUNED if trial.pruned else TrialState.COMPLETE)

    def _close(self, trial: _RunningTrial, state: TrialState) -> None:
        """Tell the study the result of a trial that counts, and close its record."""
        value = None
        if state is TrialState.COMPLETE:
            value = _over_seeds(trial.values)
            self._study.note(trial.claim, MEAN, float(np.mean(trial.means)))
        if not self._study.tell(trial.claim, value):
            trial.lost = True
            self._interrupted(trial)
            return
        self._failures_in_a_row = self._faults_in_a_row = 0
        number, name = trial.claim.number, state.name.lower()
        self._close_record(trial, name, RunStatus.FINISHED)
        value = self._study.trials()[number].value
        self._listener(TrialEnded(number, name, value, standing_of(self._study)))

    def _failed(self, trial: _RunningTrial, cause: str, *, retryable: bool) -> None:
        self._close_record(trial, "failed", RunStatus.FAILED, cause)
        self._count_failure(trial.claim, cause, retryable=retryable)
        number = trial.claim.number
        self._listener(TrialEnded(number, "failed", None, standing_of(self._study)))

    def _interrupted(self, trial: _RunningTrial) -> None:
        number = trial.claim.number
        if trial.lost:
            self._study.let_go(trial.claim)
            self._warn(_taken_over(number))
        else:
            self._study.fail(number, INTERRUPTED, again=True, counts=False)
        self._close_record(trial, INTERRUPTED, RunStatus.KILLED)

    def _close_record(
        self, trial: _RunningTrial, state: str, status: RunStatus, cause: str | None = None
    ) -> None:
        tags = {Tag.TRIAL_STATE: state, **({Tag.TRIAL_CAUSE: cause[:500]} if cause else {})}
        if trial.group is not None:
            self.problems += trial.group.finish(status, tags)
            return
        # A worker may have died before it could send the id of its run.
        run_id = trial.run_id or self._record.editor.find(self._tags(trial.claim.number))
        self._record.editor.mark(run_id, tags, status)

    def _end_runs_of(self, number: int) -> None:
        """End the run of a trial that no process runs any more, and those of its seeds."""
        self._record.editor.end_orphans(self._tags(number), {Tag.TRIAL_STATE: INTERRUPTED})

    # -- Failures

    def _count_failure(self, claim: ClaimedTrial, cause: str, *, retryable: bool) -> None:
        repeated = self._study.fail(claim.number, cause, again=retryable)
        if repeated is None:
            self._warn(_taken_over(claim.number))
            return
        then = "it is repeated" if repeated else "another takes its place"
        problem = f"trial {claim.number} failed, {then}: {cause}"
        self._warn(problem)
        self.problems.append(problem)
        self._failures_in_a_row += 1
        self._faults_in_a_row += retryable
        self._last_failure = f"trial {claim.number}: {cause}"
        if self._is_hopeless:
            self._give_up()

    def _give_up(self) -> None:
        """Raise once the last trial in training has ended."""
        if not self._running:
            raise StudyError(
                f"{self._failures_in_a_row} trials in a row failed, the last of them "
                f"{self._last_failure}"
            )

    @property
    def _is_hopeless(self) -> bool:
        return (
            self._faults_in_a_row >= _FAULTS_IN_A_ROW
            or self._failures_in_a_row >= _FAILURES_IN_A_ROW
        )

    # -- Other processes

    def _look_at_other_processes(self) -> None:
        """Find dead trials of other processes, and report which living ones are waited for."""
        if time.monotonic() - self._reaped_at < _REAP_SECONDS:
            return
        self.reap()
        if self._running:
            return
        waits = [
            f"trial {trial.number}{_elsewhere(trial.user_attrs.get(PROCESS))}"
            for trial in self._study.running_elsewhere()
        ]
        if waits and waits != self._reported_waits:
            self._reported_waits = waits
            self._warn(f"waiting for trials of other processes: {', '.join(waits)}")

    def _warn(self, text: str) -> None:
        self._listener(Warned(text))


def _taken_over(number: int) -> str:
    return f"trial {number} was taken over by another process, which took this one for dead"


def _elsewhere(process: str | None) -> str:
    """Return ` on HOST` if a process is on another host."""
    host = identity.host(process or "")
    return f" on {host}" if host and host != identity.host(identity.identity()) else ""


def _over_seeds(values: list[float]) -> float:
    return float(interquartile_mean(np.array(values)))
