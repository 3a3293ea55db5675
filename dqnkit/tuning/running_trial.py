"""A trial in training, seed by seed, and the records of trials in MLflow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dqnkit.config.sections import Config
from dqnkit.evaluation.aggregates import interquartile_mean
from dqnkit.events import RunStatus
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.names import RunKind, Tag
from dqnkit.tracking.tracker import ParentRun
from dqnkit.tuning.attributes import INTERRUPTED
from dqnkit.tuning.study import ClaimedTrial
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.orders import Task
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult

_MAX_CAUSE_LENGTH = 500


@dataclass
class RunningTrial:
    """A trial in training, seed by seed."""

    claim: ClaimedTrial
    config: Config
    name: str
    seeds: list[int]
    """Seeds that are still to be trained."""
    group: SeedGroup | None = None
    """Parent run of a trial with several seeds."""
    run_id: str | None = None
    """MLflow's id of the trial's run: that of the group, or of the only seed."""
    values: list[float] = field(default_factory=list)
    """Interquartile mean of the last evaluations of each trained seed."""
    means: list[float] = field(default_factory=list)
    """Mean return of the same episodes."""
    reports: int = 0
    """Number of values reported for the current seed."""
    is_pruned: bool = False
    is_taken_over: bool = False
    """True if another process considered this one dead and runs the trial again."""

    def add(self, seed: int, result: TrainResult) -> None:
        """Add the result of a trained seed."""
        self.values.append(result.late.summary.iqm)
        self.means.append(result.late.summary.mean)
        if self.group is not None:
            self.group.add(SeedResult.from_run(seed, result))

    def next_report(self, value: float) -> tuple[float, int]:
        """Return value and step of the report of an evaluation.

        Args:
          value: Interquartile mean of the latest evaluations of the current seed.
        """
        self.reports += 1
        step = len(self.values) * self.config.num_evaluations + self.reports
        return aggregate_over_seeds([*self.values, value]), step

    @property
    def value(self) -> float:
        """Value of the trial over all trained seeds."""
        return aggregate_over_seeds(self.values)

    @property
    def mean(self) -> float:
        """Mean return of the episodes that the value is computed from."""
        return float(np.mean(self.means))


def aggregate_over_seeds(values: list[float]) -> float:
    """Return the interquartile mean of one value per seed."""
    return float(interquartile_mean(np.array(values)))


class TrialRecords:
    """Records of the trials of a study, below the study's run."""

    def __init__(self, study_name: str, study_run: StudyRun) -> None:
        self._study_name = study_name
        self._study_run = study_run
        self._tracking_uri = study_run.tracking_uri

    def open_group(self, trial: RunningTrial) -> None:
        """Open the parent run of a trial with several seeds.

        Raises:
          TrackingError: If the store cannot be reached.
        """
        record = GroupRecord(self._tracking_uri, self._parent(trial), RunKind.TRIAL)
        trial.group = SeedGroup(trial.config, trial.name, list(trial.seeds), record)
        trial.group.start()
        trial.run_id = trial.group.run_id

    def make_task(self, trial: RunningTrial, seed: int, *, waits_for_pruner: bool) -> Task:
        """Make the task of a seed, whose run is the trial's own or belongs to its group."""
        group = trial.group
        return Task(
            config=trial.config.with_seed(seed),
            run_name=trial.name if group is None else f"{trial.name}-s{seed}",
            parent=self._parent(trial) if group is None else group.parent,
            tracking_uri=self._tracking_uri,
            waits_for_pruner=waits_for_pruner,
        )

    def close(
        self, trial: RunningTrial, state: str, status: RunStatus, cause: str | None = None
    ) -> list[str]:
        """Close the record of a trial.

        Args:
          trial: The trial.
          state: State for the tag `Tag.TRIAL_STATE`.
          status: Final status of its run.
          cause: Cause of a failure.

        Returns:
          Descriptions of what could not be recorded.
        """
        tags = {Tag.TRIAL_STATE: state}
        if cause:
            tags[Tag.TRIAL_CAUSE] = cause[:_MAX_CAUSE_LENGTH]
        if trial.group is not None:
            return trial.group.finish(status, tags)
        editor = self._study_run.editor
        # A worker may have died before it could send the id of its run.
        run_id = trial.run_id or editor.find(self._tags(trial.claim.number))
        editor.mark(run_id, tags, status)
        return []

    def end_orphans(self, number: int) -> None:
        """End the runs of a trial that no process runs any more, those of its seeds included."""
        self._study_run.editor.end_orphans(self._tags(number), {Tag.TRIAL_STATE: INTERRUPTED})

    def _parent(self, trial: RunningTrial) -> ParentRun:
        axes = self._study_run.space.axes(trial.claim.values)
        return ParentRun(self._study_run.run_id, self._tags(trial.claim.number), axes)

    def _tags(self, number: int) -> dict[str, str]:
        return {Tag.STUDY: self._study_name, Tag.TRIAL: str(number)}
