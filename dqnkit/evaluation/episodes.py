"""Evaluation episodes and their statistics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from typing_extensions import override

from dqnkit.evaluation.aggregates import Summary, bootstrap_interval, summarize
from dqnkit.evaluation.formatting import format_interval, format_number, markdown_table

LATE_EVALUATIONS = 5
"""Number of evaluations at the end of training that are pooled into its score.

A single evaluation is too noisy: the policy of a DQN changes a lot between two evaluations.
"""


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """Returns and lengths of episodes played with one policy."""

    returns: tuple[float, ...]
    """Undiscounted return of each episode."""
    lengths: tuple[int, ...]
    """Number of steps of each episode."""

    @cached_property
    def summary(self) -> Summary:
        """Statistics of the returns."""
        return summarize(np.asarray(self.returns))

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the interquartile mean; None for a single episode."""
        if len(self.returns) < 2:
            return None
        return bootstrap_interval(np.asarray(self.returns))

    def statistics(self) -> dict[str, float | None]:
        """Return the statistics of the returns as a JSON object."""
        low, high = self.interval or (None, None)
        return {**asdict(self.summary), "ci_low": low, "ci_high": high}

    def as_dict(self) -> dict[str, Any]:
        """Return every episode as a JSON object."""
        return {"returns": list(self.returns), "lengths": list(self.lengths)}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Episodes):
    """Episodes of one evaluation during training."""

    iteration: int
    """Number of training iterations before the evaluation."""
    env_steps: int
    """Number of environment steps before the evaluation."""

    @override
    def as_dict(self) -> dict[str, Any]:
        counters = {"iteration": self.iteration, "env_steps": self.env_steps}
        return counters | super().as_dict()


def late_episodes(evaluations: Sequence[Evaluation]) -> Episodes:
    """Return the pooled episodes of the last `LATE_EVALUATIONS` evaluations.

    The evaluation before training is left out, unless it is the only one.
    """
    late = evaluations[1:][-LATE_EVALUATIONS:] or evaluations
    return Episodes(
        returns=tuple(value for each in late for value in each.returns),
        lengths=tuple(value for each in late for value in each.lengths),
    )


def markdown_summary(
    rows: Mapping[str, Episodes], *, without_interval: Collection[str] = ()
) -> str:
    """Return a Markdown table with the statistics of the returns.

    Args:
      rows: Episodes of each row, by the name of the row.
      without_interval: Names of the rows whose episodes were selected by their returns: the
        bootstrap interval does not account for the selection, and is left out.
    """
    header = ("", "episodes", "mean", "std", "min", "max", "IQM (95 % interval)")
    return markdown_table(
        header,
        [_summary_row(name, each, name not in without_interval) for name, each in rows.items()],
    )


def _summary_row(name: str, episodes: Episodes, has_interval: bool) -> list[str]:
    summary = episodes.summary
    low, high = (has_interval and episodes.interval) or (None, None)
    return [
        name,
        str(summary.n),
        *map(format_number, (summary.mean, summary.std, summary.min, summary.max)),
        format_interval(summary.iqm, low, high),
    ]
