"""Results of confirmation: the best trials, trained again with fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dqnkit.config.sections import Config
from dqnkit.evaluation.aggregates import Estimate
from dqnkit.tuning.standing import TrialScore
from dqnkit.workers.seed_group import SeedResult, SeedScores

FRESH_SEEDS = 5
"""Number of fresh seeds per candidate."""


@dataclass(frozen=True)
class ConfirmedTrial:
    """A trial of the search, with its results for fresh seeds."""

    trial: TrialScore
    config: Config
    results: tuple[SeedResult, ...]
    scores: SeedScores

    @property
    def score(self) -> Estimate:
        """Estimate of the same statistic as the trial's value, over the fresh seeds."""
        return self.scores.late

    @property
    def champion(self) -> SeedResult:
        """Result of the seed with the best policy on fresh episodes; the lowest of equal seeds."""
        return max(self.results, key=lambda each: (each.final_iqm, each.final_mean, -each.seed))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "trial": self.trial.number,
            "search_value": self.trial.value,
            "confirmed": self.score._asdict(),
            "best_policies": self.scores.final._asdict(),
            "n": self.scores.n,
            "seeds": {str(each.seed): each.late_iqm for each in self.results},
            "values": self.trial.values,
        }


def fresh_seeds(config: Config, seeds_per_trial: int) -> tuple[int, ...]:
    """Return the seeds of the confirmation: those after the seeds of the search."""
    first = config.training.seed + seeds_per_trial
    return tuple(range(first, first + FRESH_SEEDS))


def is_overturned(best: TrialScore | None, ranked: Sequence[ConfirmedTrial]) -> bool:
    """Return whether confirmation ranks another trial above the best of the search."""
    return best is not None and bool(ranked) and ranked[0].trial.number != best.number
