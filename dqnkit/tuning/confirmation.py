"""Confirmation: training the best trials again with seeds that the search has not used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dqnkit.tracking.names import RunKind, Tag
from dqnkit.tracking.tracker import ParentRun
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.confirmed_trial import ConfirmedTrial, fresh_seeds
from dqnkit.tuning.standing import TrialScore, best_trials
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult, aggregate
from dqnkit.workers.seed_jobs import SeedJobs


def choose_candidates(study: SharedStudy, count: int) -> list[TrialScore]:
    """Return the best trials of the search, and those that the study has confirmed already.

    What was confirmed counts until something better is: a later search that confirms fewer trials,
    or none, must not replace the winner by one with less evidence.

    Args:
      study: The study.
      count: Number of the best trials.
    """
    ranked = best_trials(study, len(study.trials()))
    seeds = fresh_seeds(study.definition.config, study.definition.seeds_per_trial)
    results = study.get_attr(StudyAttr.CONFIRMATION) or {}
    complete = {
        int(number) for number, of in results.items() if {str(seed) for seed in seeds} <= set(of)
    }
    return [trial for rank, trial in enumerate(ranked) if rank < count or trial.number in complete]


class Confirmation:
    """Trains candidates with fresh seeds. Results are stored in the study and not trained twice."""

    def __init__(
        self, study: SharedStudy, candidates: Sequence[TrialScore], study_run: StudyRun
    ) -> None:
        """Make the jobs of all seeds that have no result yet.

        Args:
          study: The study that the candidates are trials of.
          candidates: Trials to train again, best first.
          study_run: Parent of the runs.
        """
        self._study = study
        self._candidates = candidates
        self.seeds = fresh_seeds(study.definition.config, study.definition.seeds_per_trial)
        self._results: dict[str, dict[str, Any]] = dict(
            study.get_attr(StudyAttr.CONFIRMATION) or {}
        )
        parent = ParentRun(study_run.run_id, {Tag.CONFIRMS: study.name})
        record = GroupRecord(study_run.tracking_uri, parent, RunKind.CONFIRMATION)
        self._groups = {
            candidate.number: self._make_group(candidate.number, record) for candidate in candidates
        }
        self.jobs = SeedJobs(
            list(self._groups.values()), study_run.tracking_uri, self._store_result
        )

    def ranked(self) -> list[ConfirmedTrial]:
        """Return the candidates that have a result, best first.

        Candidates with more trained seeds rank higher. Among equals, the order is by interquartile
        mean, then by the lower end of its interval, then by the value in the search.
        """
        confirmed = [
            ConfirmedTrial(each, group.config, tuple(group.results), aggregate(group.results))
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

    def _make_group(self, number: int, record: GroupRecord) -> SeedGroup:
        """Make the group of a candidate's fresh seeds, with the results that the study has."""
        config = self._study.configuration(number)
        group = SeedGroup(config, f"{self._study.name}-confirms-t{number:03d}", self.seeds, record)
        for seed, document in self._results.get(str(number), {}).items():
            if int(seed) in self.seeds:
                group.add(SeedResult.from_dict(document))
        return group

    def _store_result(self, group: SeedGroup, result: SeedResult) -> None:
        number = next(number for number, each in self._groups.items() if each is group)
        self._results.setdefault(str(number), {})[str(result.seed)] = result.as_dict()
        self._study.set_attr(StudyAttr.CONFIRMATION, self._results)
