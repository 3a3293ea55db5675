"""Confirmation: training the best trials again on seeds that the search has not used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dqnkit.tracking.names import Kind, Tag
from dqnkit.tracking.tracker import ParentRun
from dqnkit.tuning.confirmed import Confirmed, fresh_seeds
from dqnkit.tuning.standing import TrialScore
from dqnkit.tuning.study import CONFIRMATION, SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult, aggregate
from dqnkit.workers.seed_jobs import SeedJobs


class Confirmation:
    """Trains candidates again; results are remembered in the study, so that none is trained twice."""

    def __init__(
        self,
        study: SharedStudy,
        candidates: Sequence[TrialScore],
        record: StudyRun,
    ) -> None:
        definition = study.definition
        self._study = study
        self._candidates = candidates
        self.seeds = fresh_seeds(definition.config, definition.seeds_per_trial)
        self._known: dict[str, dict[str, Any]] = dict(study.recall(CONFIRMATION) or {})
        belongs_to = ParentRun(record.run_id, {Tag.CONFIRMS: study.name})
        place = GroupRecord(record.tracking_uri, belongs_to, Kind.CONFIRMATION)
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
        """Return the candidates that have a result, best first.

        Candidates without failed seeds come first. Among them, the order is by interquartile mean,
        then by the lower end of its interval, then by the value in the search.
        """
        confirmed = [
            Confirmed(each, group.config, tuple(group.results), aggregate(group.results))
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
