"""Runs that differ in nothing but the seed, pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from dqnkit.evaluation.aggregates import Estimate, bootstrap_interval, estimate, interquartile_mean
from dqnkit.evaluation.plots import Curve
from dqnkit.events import RunStatus
from dqnkit.tracking.recorded_run import RecordedRun

_SEED = "training.seed"
_VERSION = "dqnkit.version"
_SAYS_NOTHING = (
    _SEED,
    "description",
    "env.step_timeout",
    "tracking.enabled",
    "tracking.tags",
    "training.checkpoint_interval",
)
"""Parameters that make no difference to what is learnt, the seed aside."""
_CURVE_RESAMPLES = 2_000
_IN_LEGEND = 2
"""Parameters that a legend has room for."""


class Evaluations(NamedTuple):
    """What a run's evaluations came to."""

    curve: dict[int, np.ndarray]
    """Returns by environment steps: of each episode, or their mean alone."""
    final: np.ndarray
    """Returns of the final episodes; empty where there were none, or they cannot be read."""
    mean: float | None
    """Of the final episodes."""
    problem: str = ""
    """Why something is missing that the run should have."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    runs: tuple[RecordedRun, ...]
    evaluations: tuple[Evaluations, ...]
    letter: str = ""
    """What the table and the pictures call it."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Those in which the groups of a comparison differ."""

    @property
    def label(self) -> str:
        """Its letter, the name of its first run, and how many more there are."""
        more = len(self.runs) - 1
        several = f" and {more} more seed{'s' if more > 1 else ''}" if more else ""
        return f"{self.letter} {self.runs[0].name}{several}"

    @property
    def legend(self) -> str:
        """Its letter with what sets it apart, where that is little, else its label."""
        if not 1 <= len(self.params) <= _IN_LEGEND:
            return self.label
        parts = [f"{key.rpartition('.')[2]}={value}" for key, value in self.params.items()]
        seeds = f"{len(self.runs)} seed{'s' if len(self.runs) > 1 else ''}"
        return f"{self.letter} {', '.join(parts)} ({seeds})"

    @property
    def sample(self) -> np.ndarray:
        """What the score is a mean of: of several seeds a mean each, of one its episodes."""
        if len(self.runs) == 1:
            return self.evaluations[0].final
        return np.array([each.mean for each in self.evaluations if each.mean is not None])

    @property
    def sample_of(self) -> str:
        """What `sample` holds, in words."""
        if len(self.runs) == 1:
            return f"{self.sample.size:,} episodes of 1 seed"
        if self.sample.size < len(self.runs):
            return f"{self.sample.size} of {len(self.runs)} seeds"
        return f"{self.sample.size} seeds"

    @cached_property
    def score(self) -> Estimate | None:
        """Interquartile mean of `sample`; None where that has fewer than two values."""
        if self.sample.size < 2:
            return None
        return estimate(self.sample)

    @property
    def status(self) -> str:
        """Of the runs, which is one."""
        return self.runs[0].status

    def median(self, metric: str) -> float | None:
        """Over the runs, of the last value of a metric."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return float(np.median(values)) if values else None

    @cached_property
    def curve(self) -> Curve | None:
        """The learning curve, at the steps that all runs were evaluated at."""
        return pooled_curve([each.curve for each in self.evaluations])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "label": self.label,
            "runs": [{"id": run.id, "name": run.name} for run in self.runs],
            "status": self.status,
            "params": dict(self.params),
            "score": self.score._asdict() if self.score else None,
            "score_of": self.sample_of,
            "best_return_mean": self.median("best/return_mean"),
            "steps_per_second": self.median("time/steps_per_second"),
            "training_seconds": self.median("time/training_seconds"),
        }


def pooled_curve(curves: Sequence[Mapping[int, np.ndarray]]) -> Curve | None:
    """Interquartile means with intervals, over seeds, or over the episodes of the only one.

    Args:
      curves: Of each seed the returns by environment steps: of all episodes, or their mean alone.

    Returns:
      At the steps that all have; None where there are none.
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
    runs: Iterable[RecordedRun], evaluations: Mapping[str, Evaluations]
) -> tuple[Group, ...]:
    """Pools finished runs that differ in nothing but the seed, and names what differs."""
    pools: dict[Any, list[RecordedRun]] = {}
    for run in runs:
        same = frozenset((k, v) for k, v in _settings(run).items() if k not in _SAYS_NOTHING)
        # The same seed twice is no further evidence, and an unfinished run none of its kind.
        key: Any = same if run.status == RunStatus.FINISHED else run.id
        pools.setdefault(key, []).append(run)
    members = [
        list({run.params.get(_SEED): run for run in pool}.values()) for pool in pools.values()
    ]
    params = [_settings(pool[0]) for pool in members]
    keys = sorted({key for each in params for key in each} - set(_SAYS_NOTHING))
    differing = [key for key in keys if len({each.get(key) for each in params}) > 1]
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
    """The parameters, and the version of dqnkit, which may change what they come to."""
    version = run.tags.get(_VERSION)
    return {**run.params, **({_VERSION: version} if version else {})}


def _letter(number: int) -> str:
    """A to Z, then A1 to Z1 and so on."""
    rest, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(rest) if rest else "")
