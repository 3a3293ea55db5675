"""Greedy episodes of a policy, in environments and with seeds of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dqnkit.statistics import Summary, summarize


@dataclass(frozen=True)
class Evaluation:
    """The episodes of one evaluation."""

    iteration: int
    """Training iterations that the policy had seen."""
    env_steps: int
    """Environment steps that it had seen."""
    returns: tuple[float, ...]
    """Undiscounted return of each episode."""
    lengths: tuple[int, ...]

    @property
    def summary(self) -> Summary:
        """Statistics of the returns."""
        return summarize(np.asarray(self.returns))

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
