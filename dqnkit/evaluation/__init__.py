"""Greedy episodes of a policy, in environments and with seeds of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from dqnkit.statistics import Summary, bootstrap_interval, summarize


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


@dataclass(frozen=True, kw_only=True)
class Evaluation(Episodes):
    """The episodes of one evaluation in the course of a training."""

    iteration: int
    """Training iterations that the policy had seen."""
    env_steps: int
    """Environment steps that it had seen."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
        }


class Evaluator(Protocol):
    """Plays the episodes of evaluations, greedily, with a policy's present weights."""

    def prepare(self) -> None:
        """Compiles what `play` runs."""

    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of episodes.

        Args:
          counter: Picks the episodes: the same ones for the same seed and counter, and for
            another policy the same initial states. Other counters have others, but by chance.

        Returns:
          Undiscounted returns float32 [num_episodes], lengths int32 [num_episodes].
        """

    def close(self) -> None:
        """Ends the environments."""
