"""Orders from a pool to its workers; a worker answers with the events of `dqnkit.events`."""

from __future__ import annotations

from dataclasses import dataclass

from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.tracking.location import AUTO
from dqnkit.tracking.tracker import NO_PARENT, ParentRun


@dataclass(frozen=True)
class Task:
    """A run to train."""

    config: Config
    run_name: str
    parent: ParentRun = NO_PARENT
    tracking_uri: str | None = AUTO
    waits_for_pruner: bool = False
    """True if the run waits for a `PrunerDecision` after each evaluation that may end it."""
    resumes: str | None = None
    """Id of an interrupted run to continue; None begins a new one."""

    def awaits_decision(self, evaluation: Evaluation) -> bool:
        """Return whether the run waits for a decision after an evaluation.

        The untrained policy and the last evaluation, which ends the run, need none.
        """
        total = self.config.training.num_iterations
        return self.waits_for_pruner and 0 < evaluation.iteration < total


@dataclass(frozen=True)
class PrunerDecision:
    """A decision on a run: continue, or end as FINISHED with the results so far."""

    proceed: bool


@dataclass(frozen=True)
class StopRun:
    """A request to end a run as KILLED after its current chunk, with the results so far."""


Order = Task | PrunerDecision | StopRun
