"""Groups of runs that differ only in the seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from dqnkit._system.text import short_names
from dqnkit.config.fingerprint import IRRELEVANT, SEED
from dqnkit.evaluation.aggregates import Estimate, bootstrap_interval, estimate, interquartile_mean
from dqnkit.evaluation.plots import Curve
from dqnkit.events import RunStatus
from dqnkit.tracking.names import Metric, Tag
from dqnkit.tracking.recorded_run import RecordedRun

_CURVE_RESAMPLES = 2_000
_IN_LEGEND = 2
"""Maximum number of parameters in a legend."""


class Evaluations(NamedTuple):
    """Returns of a run's evaluations."""

    curve: dict[int, np.ndarray]
    """Returns by environment steps: of all episodes, or only their mean."""
    final: np.ndarray
    """Returns of the final episodes; empty if there are none or they cannot be read."""
    mean: float | None
    """Mean return of the final episodes."""
    problem: str = ""
    """Why evaluations of the run are missing, if they are."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed."""

    runs: tuple[RecordedRun, ...]
    evaluations: tuple[Evaluations, ...]
    letter: str = ""
    """Name of the group in tables and pictures."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Parameters in which the groups of a comparison differ."""

    @property
    def label(self) -> str:
        """Letter, name of the first run, and number of further seeds."""
        more = len(self.runs) - 1
        several = f" and {more} more seed{'s' if more > 1 else ''}" if more else ""
        return f"{self.letter} {self.runs[0].name}{several}"

    @property
    def legend(self) -> str:
        """Letter and differing parameters if these are few, else the label."""
        if not 1 <= len(self.params) <= _IN_LEGEND:
            return self.label
        names = short_names(self.params)
        parts = [f"{names[key]}={value}" for key, value in self.params.items()]
        seeds = f"{len(self.runs)} seed{'s' if len(self.runs) > 1 else ''}"
        return f"{self.letter} {', '.join(parts)} ({seeds})"

    @property
    def sample(self) -> np.ndarray:
        """Values behind the score: the mean of each seed, or the episodes of a single one."""
        if len(self.runs) == 1:
            return self.evaluations[0].final
        return np.array([each.mean for each in self.evaluations if each.mean is not None])

    @property
    def sample_of(self) -> str:
        """Description of `sample`."""
        if len(self.runs) == 1:
            return f"{self.sample.size:,} episodes of 1 seed"
        if self.sample.size < len(self.runs):
            return f"{self.sample.size} of {len(self.runs)} seeds"
        return f"{self.sample.size} seeds"

    @cached_property
    def score(self) -> Estimate | None:
        """Interquartile mean of `sample`; None if that has fewer than two values."""
        if self.sample.size < 2:
            return None
        return estimate(self.sample)

    @property
    def status(self) -> str:
        """Status of the runs, which all have the same."""
        return self.runs[0].status

    @property
    def state(self) -> str:
        """State of a trial, such as `pruned`, or else the status of the runs in lower case."""
        return self.runs[0].tags.get(Tag.TRIAL_STATE, self.status.lower())

    def median(self, metric: str) -> float | None:
        """Return the median over the runs of the last value of a metric."""
        return median(self.runs, metric)

    @cached_property
    def curve(self) -> Curve | None:
        """Learning curve, at the steps at which all runs were evaluated."""
        return pooled_curve([each.curve for each in self.evaluations])

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "label": self.label,
            "runs": [{"id": run.id, "name": run.name} for run in self.runs],
            "status": self.status,
            "state": self.state,
            "value": self.median(Metric.LATE_IQM),
            "params": dict(self.params),
            "score": self.score._asdict() if self.score else None,
            "score_of": self.sample_of,
            "best_return_mean": self.median(Metric.BEST_MEAN),
            "steps_per_second": self.median(Metric.STEPS_PER_SECOND),
            "training_seconds": self.median(Metric.TRAINING_SECONDS),
        }


def median(runs: Sequence[RecordedRun], metric: str) -> float | None:
    """Return the median over runs of the last value of a metric; None if no run has it."""
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return float(np.median(values)) if values else None


def _merit(
    runs: Sequence[RecordedRun], evaluations: Mapping[str, Evaluations], metric: str
) -> float | None:
    """Return the value by which a group is sorted; None if it has none."""
    score = Group(tuple(runs), tuple(evaluations[run.id] for run in runs)).score
    return score.value if score and metric == Metric.FINAL_IQM else median(runs, metric)


def _ranked(value: float | None) -> tuple[bool, float]:
    """Return a key that sorts values from the highest, and those that are missing last."""
    is_missing = value is None or np.isnan(value)
    return is_missing, 0.0 if is_missing or value is None else -value


def pooled_curve(curves: Sequence[Mapping[int, np.ndarray]]) -> Curve | None:
    """Return a curve of interquartile means over seeds, or over the episodes of a single one.

    Args:
      curves: Returns by environment steps, for each seed: of all episodes, or only their mean.

    Returns:
      The curve at the steps that all seeds have; None if there are none.
    """
    steps = sorted(set.intersection(*(set(each) for each in curves)))
    if not steps:
        return None
    points = []
    for step in steps:
        values = np.array([each[step].mean() for each in curves])
        values = curves[0][step] if len(curves) == 1 else values
        low, high = bootstrap_interval(values, resamples=_CURVE_RESAMPLES)
        points.append((float(interquartile_mean(values)), low, high))
    middle, lower, upper = (np.array(each) for each in zip(*points, strict=True))
    return Curve(np.array(steps), middle, lower, upper)


def grouped(
    runs: Iterable[RecordedRun],
    evaluations: Mapping[str, Evaluations],
    best_by: str | None = None,
) -> tuple[Group, ...]:
    """Pool finished runs that differ only in the seed, and find the parameters that differ.

    Args:
      runs: The runs.
      evaluations: Their evaluations, by id.
      best_by: Metric that sorts the groups, highest first: their scores if it is that of the best
        policy, else its median. None keeps the order of runs.
    """
    pools: dict[Any, list[RecordedRun]] = {}
    for run in runs:
        same = frozenset((k, v) for k, v in _settings(run).items() if k not in IRRELEVANT)
        # A repeated seed is no further evidence, and an unfinished run stands alone.
        # A trial was chosen by its own seed, which later seeds must not be pooled with.
        trial = (run.tags.get(Tag.STUDY), run.tags.get(Tag.TRIAL))
        key: Any = (same, trial) if run.status == RunStatus.FINISHED else run.id
        pools.setdefault(key, []).append(run)
    members = [
        list({run.params.get(SEED): run for run in pool}.values()) for pool in pools.values()
    ]
    if best_by is not None:
        members.sort(key=lambda pool: _ranked(_merit(pool, evaluations, best_by)))
    params = [_settings(pool[0]) for pool in members]
    keys = sorted({key for each in params for key in each} - set(IRRELEVANT))
    differing = [key for key in keys if len({each.get(key) for each in params}) > 1]
    if differing != [Tag.CONFIG]:  # it alone tells apart what MLflow has cut
        differing = [key for key in differing if key != Tag.CONFIG]
    return tuple(
        Group(
            tuple(pool),
            tuple(evaluations[run.id] for run in pool),
            _letter(number),
            {key: _settings(pool[0]).get(key, "") for key in differing},
        )
        for number, pool in enumerate(members)
    )


def _settings(run: RecordedRun) -> dict[str, str]:
    """Return the parameters, and what else may change results: dqnkit, and what MLflow cut."""
    tags = {key: run.tags[key] for key in (Tag.VERSION, Tag.CONFIG) if key in run.tags}
    return {**run.params, **tags}


def _letter(number: int) -> str:
    """Return A to Z, then A1 to Z1, and so on."""
    rest, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(rest) if rest else "")
