"""Greedy episodes of a policy, in environments and with seeds of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dqnkit.evaluation.aggregates import Summary, bootstrap_interval, summarize
from dqnkit.evaluation.formatting import format_interval, format_number

MARKDOWN_HEAD = (
    "| | episodes | mean | std | min | max | IQM (95 % interval) |\n|---|---|---|---|---|---|---|"
)
"""Of the table that a run's description has."""

LATE_EVALUATIONS = 5
"""The last evaluations of a training that say how good it was at its end: one alone says little,
since a DQN's policy changes much from one to the next."""


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """What a policy came to."""

    returns: tuple[float, ...]
    """Undiscounted return of each episode."""
    lengths: tuple[int, ...]

    @cached_property
    def summary(self) -> Summary:
        """Statistics of the returns."""
        return summarize(np.asarray(self.returns))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of their interquartile mean."""
        return bootstrap_interval(np.asarray(self.returns))

    def metrics(self, prefix: str) -> dict[str, float]:
        """For the record, as `PREFIX/return_mean` and so on."""
        summary, (low, high) = self.summary, self.interval
        values = {
            "return_mean": summary.mean,
            "return_std": summary.std,
            "return_min": summary.min,
            "return_max": summary.max,
            "return_median": summary.median,
            "return_iqm": summary.iqm,
            "return_ci_low": low,
            "return_ci_high": high,
            "length_mean": float(np.mean(self.lengths)),
            "length_min": float(np.min(self.lengths)),
            "length_max": float(np.max(self.lengths)),
            "episodes": float(summary.n),
        }
        return {f"{prefix}/{name}": value for name, value in values.items()}

    def statistics(self) -> dict[str, float]:
        """For JSON: what the episodes came to."""
        low, high = self.interval
        return {**asdict(self.summary), "ci_low": low, "ci_high": high}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every episode."""
        return {"returns": list(self.returns), "lengths": list(self.lengths)}

    def markdown_row(self, name: str, *, with_interval: bool = True) -> str:
        """A row under `MARKDOWN_HEAD`; without interval where the episodes were chosen by."""
        summary = self.summary
        values = (summary.mean, summary.std, summary.min, summary.max)
        ends = self.interval if with_interval else (None, None)
        cells = [
            name,
            str(summary.n),
            *map(format_number, values),
            format_interval(summary.iqm, *ends),
        ]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True, kw_only=True)
class Evaluation(Episodes):
    """The episodes of one evaluation in the course of a training."""

    iteration: int
    """Training iterations that the policy had seen."""
    env_steps: int
    """Environment steps that it had seen."""

    def as_dict(self) -> dict[str, Any]:
        """See `Episodes`."""
        counters = {"iteration": self.iteration, "env_steps": self.env_steps}
        return counters | super().as_dict()


def late_episodes(evaluations: Sequence[Evaluation]) -> Episodes:
    """The episodes of the last evaluations together; that before training does not count."""
    late = evaluations[1:][-LATE_EVALUATIONS:] or evaluations
    return Episodes(
        returns=tuple(value for each in late for value in each.returns),
        lengths=tuple(value for each in late for value in each.lengths),
    )
