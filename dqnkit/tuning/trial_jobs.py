"""The trials of a search as work for a pool."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

import numpy as np
from optuna.trial import TrialState

from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError, StudyError, TrackingError
from dqnkit.evaluation.aggregates import interquartile_mean
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking.family import ParentTracker
from dqnkit.tracking.recorded_run import STUDY_TAG
from dqnkit.tracking.tracker import ParentRun
from dqnkit.tuning.heartbeats import PROCESS
from dqnkit.tuning.standing import Standing, TrialScore, TuneReporter
from dqnkit.tuning.study import CAUSE, INTERRUPTED, MEAN, RUN, ClaimedTrial, SharedStudy
from dqnkit.workers.messages import (
    Began,
    Died,
    Ended,
    Evaluated,
    Failed,
    Interrupt,
    Interrupted,
    Task,
    Verdict,
)
from dqnkit.workers.pool import WorkerMessage
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult

STATE_TAG = "trial.state"
"""Tag of a trial's run: complete, pruned, failed or interrupted."""
TRIAL_TAG = "dqnkit.trial"
"""Tag that numbers it."""
TRIAL_KIND = "trial"
"""Of a run that stands for a trial of several seeds."""
_FAULTS_IN_A_ROW = 5
"""Failures from outside, after which something is wrong that no parameters will mend."""
_FAILURES_IN_A_ROW = 20
"""Failures of any kind, after which the space holds nothing that can be trained."""
_REAP_SECONDS = 10.0
"""Between two looks for trials that nobody runs, where there is nothing else to do."""
_REAP_OFTEN_SECONDS = 60.0
"""The same where there is."""


class Pruning(Enum):
    """When trials report, and may be ended early."""

    BY_EVALUATION = auto()
    BY_SEED = auto()
    NEVER = auto()
    """They report after each evaluation all the same."""


class Records(Protocol):
    """Where a study and its trials are recorded."""

    @property
    def tracker(self) -> ParentTracker:
        """Of the study's own run."""

    @property
    def tracking_uri(self) -> str | None:
        """Of the store."""


@dataclass
class _Running:
    """A trial in training, seed by seed."""

    claim: ClaimedTrial
    config: Config
    name: str
    seeds: list[int]
    """Left to train."""
    group: SeedGroup | None
    """The record of a trial of several seeds."""
    run_id: str | None = None
    """Of the trial's record."""
    values: list[float] = field(default_factory=list)
    """Of each seed that is done."""
    means: list[float] = field(default_factory=list)
    reports: int = 0
    """Evaluations of the present seed."""
    pruned: bool = False
    lost: bool = False
    """Whether others took this process for dead, and run the trial again."""


class TrialJobs:
    """Trains trials until as many have ended as the study wants (`Jobs`)."""

    def __init__(
        self,
        study: SharedStudy,
        record: Records,
        reporter: TuneReporter,
        pruning: Pruning,
        deadline: float = math.inf,
    ) -> None:
        """Takes up the study's trials.

        Args:
          study: Where trials come from.
          record: Of the study.
          reporter: Hears of progress.
          pruning: When trials report.
          deadline: By `time.monotonic`: when no further trial is begun.
        """
        self._study = study
        self._record = record
        self._reporter = reporter
        self._pruning = pruning
        self._deadline = deadline
        self._running: dict[str, _Running] = {}
        self._between_seeds: list[_Running] = []
        self._faults_in_a_row = 0
        self._failures_in_a_row = 0
        self._last_failure = ""
        self._reaped = time.monotonic()
        self._waited_for: list[str] = []
        self.problems: list[str] = []

    # -- Jobs

    @property
    def is_done(self) -> bool:
        """See `Jobs`."""
        if self._running or self._between_seeds:
            return False
        return self._study.is_done or time.monotonic() >= self._deadline

    def next_task(self) -> Task | None:
        """See `Jobs`."""
        if self._between_seeds:
            return self._task(self._between_seeds.pop())
        if self._is_hopeless:
            self._give_up()
            return None
        if time.monotonic() >= self._deadline:
            return None
        if time.monotonic() - self._reaped >= _REAP_OFTEN_SECONDS:
            self.reap()
        claim = self._study.ask()
        if claim is None:
            self._look_at_others()
            return None
        try:
            return self._begin(claim)
        except TrackingError as error:  # of a trial of several seeds, whose run is begun here
            self._count_failure(claim, str(error), again=True)
            return None
        except BaseException:  # nobody else knows of the claim yet
            self._study.fail(claim.number, INTERRUPTED, again=True, counts=False)
            raise

    def heard(self, news: WorkerMessage) -> None:
        """See `Jobs`."""
        task, message = news.task, news.message
        if task is None or task.run_name not in self._running:
            return
        running = self._running[task.run_name]
        match message:
            case Began():
                self._began(running, message)
            case Evaluated():
                go_on = self._evaluated(running, message)
                if message.asks and not running.lost:
                    news.worker.send(Verdict(go_on))
            case Ended():
                del self._running[task.run_name]
                self._ended(running, message, task.config.training.seed)
            case Interrupted():
                del self._running[task.run_name]
                self._interrupted(running)
            case Failed() | Died():
                del self._running[task.run_name]
                again = isinstance(message, Died) or message.again
                self._failed(running, message.cause, again=again)
        if running.lost and isinstance(message, Began | Evaluated):
            news.worker.send(Interrupt())

    def reap(self) -> None:
        """Lets trials be tried again whose process has died, and says so in their records."""
        self._reaped = time.monotonic()
        reaped = self._study.reap()
        if reaped:
            self._record.tracker.claim()  # it may have been theirs
        for trial in reaped:
            self._reporter.told(
                f"trial {trial.number} is tried again: its process has died"
                f"{_elsewhere(trial.user_attrs.get(PROCESS))}"
            )
            self._end_runs_of(trial.number)

    def _end_runs_of(self, number: int) -> None:
        """Of a trial that nobody runs any more: its own, and those of its seeds."""
        tags = {STUDY_TAG: self._study.name, TRIAL_TAG: str(number)}
        self._record.tracker.end_orphans(tags, {STATE_TAG: INTERRUPTED})

    def end_orphans(self) -> None:
        """Ends the runs of trials that have ended, which a process that died has left RUNNING."""
        for trial in self._study.trials():
            if trial.user_attrs.get(CAUSE) == INTERRUPTED:
                self._end_runs_of(trial.number)

    def _look_at_others(self) -> None:
        """All that is left is with other processes: some may have died, the rest is waited for."""
        if time.monotonic() - self._reaped < _REAP_SECONDS:
            return
        self.reap()
        if self._running:
            return
        waited_for = [
            f"trial {trial.number}{_elsewhere(trial.user_attrs.get(PROCESS))}"
            for trial in self._study.running_elsewhere()
        ]
        if waited_for and waited_for != self._waited_for:
            self._waited_for = waited_for
            self._reporter.told(f"waiting for what others run: {', '.join(waited_for)}")

    def _find_run(self, number: int) -> str | None:
        """The run of a trial that died before it could tell which it was."""
        tags = {STUDY_TAG: self._study.name, TRIAL_TAG: str(number)}
        return self._record.tracker.find(tags)

    def abandon(self) -> None:
        """Marks what still runs as interrupted: its workers are gone."""
        for running in [*self._running.values(), *self._between_seeds]:
            with contextlib.suppress(StudyError):  # which may be why they are
                self._interrupted(running)
        self._running, self._between_seeds = {}, []

    # -- A trial's life

    def _begin(self, claim: ClaimedTrial) -> Task | None:
        study, purpose = self._study, self._study.purpose
        try:
            config = purpose.space.configure(purpose.config, claim.values)
        except ConfigError as error:  # values that are possible one by one, not all together
            self._count_failure(claim, str(error), again=False)
            return None
        first = purpose.config.training.seed
        seeds = list(range(first, first + purpose.seeds_per_trial))
        name = f"{study.name}-t{claim.number:03d}"
        running = _Running(claim, config, name, seeds, None)
        if len(seeds) > 1:
            record = GroupRecord(self._record.tracking_uri, self._member(claim), TRIAL_KIND)
            running.group = SeedGroup(config, name, seeds, record)
            running.group.start()
            running.run_id = running.group.tracker.run_id
        return self._task(running)

    def _task(self, running: _Running) -> Task:
        several, seed = running.group is not None, running.seeds.pop(0)
        name = f"{running.name}-s{seed}" if several else running.name
        running.reports = 0
        self._running[name] = running
        self._reporter.chose(name, running.claim.number, running.claim.values)
        alone = self._member(running.claim)
        return Task(
            config=running.config.with_seed(seed),
            run_name=name,
            belongs_to=alone if running.group is None else running.group.member,
            tracking_uri=self._record.tracking_uri,
            asks=self._pruning is Pruning.BY_EVALUATION,
        )

    def _member(self, claim: ClaimedTrial) -> ParentRun:
        tags = {STUDY_TAG: self._study.name, TRIAL_TAG: str(claim.number)}
        return ParentRun(self._record.tracker.run_id, tags)

    def _began(self, running: _Running, message: Began) -> None:
        if running.group is None:
            running.run_id = message.run_id
        if running.run_id is not None:
            running.lost = not self._study.note(running.claim, RUN, running.run_id)

    def _evaluated(self, running: _Running, message: Evaluated) -> bool:
        """Reports an evaluation; whether the run goes on."""
        if message.evaluation.iteration == 0 or self._pruning is Pruning.BY_SEED:
            return True
        running.reports += 1
        trial = running.claim.trial
        step = len(running.values) * running.config.num_evaluations + running.reports
        value = _over_seeds([*running.values, message.late.summary.iqm])
        running.lost = not self._study.report(running.claim, value, step)
        if running.lost:
            return False
        # At its end a training asks nothing any more, but there may be other seeds to save.
        undecided = message.asks or bool(running.seeds)
        if self._pruning is Pruning.BY_EVALUATION and undecided and trial.should_prune():
            running.pruned = True
        return not running.pruned

    def _ended(self, running: _Running, message: Ended, seed: int) -> None:
        self.problems += message.problems
        if message.status is RunStatus.KILLED or running.lost:
            self._interrupted(running)
            return
        if running.pruned:
            self._close(running, TrialState.PRUNED)
            return
        running.values.append(message.late.summary.iqm)
        running.means.append(message.late.summary.mean)
        if running.group is not None:
            running.group.add(SeedResult.of(seed, message))
        if self._pruning is Pruning.BY_SEED:
            self._study.report(running.claim, running.values[-1], len(running.values) - 1)
            running.pruned = bool(running.seeds) and running.claim.trial.should_prune()
        if running.seeds and not running.pruned:
            self._between_seeds.append(running)
        else:
            self._close(running, TrialState.PRUNED if running.pruned else TrialState.COMPLETE)

    def _close(self, running: _Running, state: TrialState) -> None:
        """Tells the study and the record what a trial that counts came to."""
        value = None
        if state is TrialState.COMPLETE:
            value = _over_seeds(running.values)
            self._study.note(running.claim, MEAN, float(np.mean(running.means)))
        if not self._study.tell(running.claim, value):
            running.lost = True
            self._interrupted(running)
            return
        self._failures_in_a_row = self._faults_in_a_row = 0
        number, name = running.claim.number, state.name.lower()
        self._close_record(running, name, RunStatus.FINISHED)
        value = self._study.trials()[number].value
        self._reporter.ended(number, name, value, standing(self._study))

    def _failed(self, running: _Running, cause: str, *, again: bool) -> None:
        self._close_record(running, "failed", RunStatus.FAILED, cause)
        self._count_failure(running.claim, cause, again=again)
        self._reporter.ended(running.claim.number, "failed", None, standing(self._study))

    def _interrupted(self, running: _Running) -> None:
        number = running.claim.number
        if running.lost:
            self._study.let_go(running.claim)
            self._reporter.told(_taken(number))
        else:
            self._study.fail(number, INTERRUPTED, again=True, counts=False)
        self._close_record(running, INTERRUPTED, RunStatus.KILLED)

    def _close_record(
        self, running: _Running, state: str, status: RunStatus, cause: str | None = None
    ) -> None:
        tags = {STATE_TAG: state, **({f"trial.{CAUSE}": cause[:500]} if cause else {})}
        if running.group is not None:
            self.problems += running.group.finish(status, tags)
            return
        run_id = running.run_id or self._find_run(running.claim.number)
        if run_id is not None:
            self._record.tracker.mark(run_id, tags, status)

    def _count_failure(self, claim: ClaimedTrial, cause: str, *, again: bool) -> None:
        retried = self._study.fail(claim.number, cause, again=again)
        if retried is None:
            self._reporter.told(_taken(claim.number))
            return
        then = "it is tried again" if retried else "another takes its place"
        problem = f"trial {claim.number} failed, {then}: {cause}"
        self._reporter.told(problem)
        self.problems.append(problem)
        self._failures_in_a_row += 1
        self._faults_in_a_row += again
        self._last_failure = f"trial {claim.number}, by this: {cause}"
        if self._is_hopeless:
            self._give_up()

    def _give_up(self) -> None:
        """Once the last of what runs has ended."""
        if not self._running:
            raise StudyError(
                f"{self._failures_in_a_row} trials in a row failed; the last, {self._last_failure}"
            )

    @property
    def _is_hopeless(self) -> bool:
        return (
            self._faults_in_a_row >= _FAULTS_IN_A_ROW
            or self._failures_in_a_row >= _FAILURES_IN_A_ROW
        )


def _taken(number: int) -> str:
    return f"trial {number} is another process's now, which took this one for dead"


def _elsewhere(process: str | None) -> str:
    """On which host, if it is not this one."""
    host = identity.host(process or "")
    return f" on {host}" if host and host != identity.host(identity.identity()) else ""


def standing(study: SharedStudy) -> Standing:
    """How the search stands."""
    trials = study.trials()
    states = [trial.state for trial in trials]
    ranked = best_trials(study, 1)
    return Standing(
        total=study.total,
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=sum(
            trial.state is TrialState.FAIL and trial.user_attrs.get(CAUSE) != INTERRUPTED
            for trial in trials
        ),
        best=ranked[0] if ranked else None,
    )


def best_trials(study: SharedStudy, count: int) -> list[TrialScore]:
    """The complete trials with the highest scores, each configuration once.

    Of equal scores the higher mean of the same episodes goes first, which sees the worst of them;
    then the earlier trial.
    """
    complete = [trial for trial in study.trials() if trial.state is TrialState.COMPLETE]
    complete.sort(key=lambda each: (-(each.value or 0), -each.user_attrs.get(MEAN, 0), each.number))
    best: list[TrialScore] = []
    for trial in complete:
        if len(best) == count:
            break
        values = study.values(trial.number)
        if all(values != other.values for other in best):
            best.append(TrialScore(trial.number, float(trial.value or 0), values))
    return best


def _over_seeds(values: list[float]) -> float:
    return float(interquartile_mean(np.array(values)))
