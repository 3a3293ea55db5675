"""The best trials, trained again on seeds that the search has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dqnkit.config.sections import Config
from dqnkit.evaluation.aggregates import Estimate
from dqnkit.tracking.tracker import ParentRun
from dqnkit.tuning.standing import TrialScore
from dqnkit.tuning.study import CONFIRMATION, SharedStudy
from dqnkit.tuning.trial_jobs import Records
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult, SeedScores, scores
from dqnkit.workers.seed_jobs import SeedJobs

SEEDS = 5
"""Fresh seeds of each candidate."""
CONFIRMATION_KIND = "confirmation"
"""Of a run that stands for a candidate with its fresh seeds."""
CONFIRMS_TAG = "dqnkit.confirms"
"""Tag that names the study whose trial a run confirms; such a run is no trial."""


@dataclass(frozen=True)
class Confirmed:
    """A trial of the search, and what fresh seeds say of it."""

    trial: TrialScore
    config: Config
    results: tuple[SeedResult, ...]
    scores: SeedScores

    @property
    def score(self) -> Estimate:
        """Of the same statistic as the trial's value, over the fresh seeds."""
        return self.scores.late

    @property
    def champion(self) -> SeedResult:
        """The seed whose policy was best on fresh episodes; of equals the first."""
        return max(self.results, key=lambda each: (each.final_iqm, each.final_mean, -each.seed))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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
    """Seeds that no trial has: those behind the search's."""
    first = config.training.seed + seeds_per_trial
    return tuple(range(first, first + SEEDS))


class Confirmation:
    """Trains candidates again, and remembers in the study what is done."""

    def __init__(
        self,
        study: SharedStudy,
        candidates: Sequence[TrialScore],
        record: Records,
    ) -> None:
        purpose = study.purpose
        self._study = study
        self._candidates = candidates
        self.seeds = fresh_seeds(purpose.config, purpose.seeds_per_trial)
        self._known: dict[str, dict[str, Any]] = dict(study.recall(CONFIRMATION) or {})
        belongs_to = ParentRun(record.tracker.run_id, {CONFIRMS_TAG: study.name})
        place = GroupRecord(record.tracking_uri, belongs_to, CONFIRMATION_KIND)
        self._groups = {
            candidate.number: SeedGroup(
                study.configuration(candidate.number),
                f"{study.name}-confirms-t{candidate.number:03d}",
                self.seeds,
                place,
            )
            for candidate in candidates
        }
        for number, group in self._groups.items():
            for seed, document in self._known.get(str(number), {}).items():
                if int(seed) in self.seeds:
                    group.add(SeedResult.from_dict(document))
        self.jobs = SeedJobs(list(self._groups.values()), record.tracking_uri, self._remember)

    def ranked(self) -> list[Confirmed]:
        """The candidates that have a result, the best first.

        One that failed on a seed comes behind those that did not; then the higher interquartile
        mean goes first, then the higher lower end of its interval, then the higher search value.
        """
        confirmed = [
            Confirmed(each, group.config, tuple(group.results), scores(group.results))
            for each, group in zip(self._candidates, self._groups.values(), strict=True)
            if group.results
        ]
        return sorted(
            confirmed,
            key=lambda each: (
                -each.scores.n,
                -each.score.value,
                -each.score.low,
                -each.trial.value,
                each.trial.number,
            ),
        )

    def _remember(self, group: SeedGroup, result: SeedResult) -> None:
        number = next(number for number, each in self._groups.items() if each is group)
        self._known.setdefault(str(number), {})[str(result.seed)] = result.as_dict()
        self._study.remember(CONFIRMATION, self._known)


def overturned(best: TrialScore | None, ranked: Sequence[Confirmed]) -> bool:
    """Whether another than the search's best is the best of the confirmed."""
    return best is not None and bool(ranked) and ranked[0].trial.number != best.number
