"""The interface of evaluators."""

from __future__ import annotations

import abc
from collections.abc import Callable

import numpy as np

Watch = Callable[[int, int], None]
"""Called while episodes are played, with the number of finished episodes and of the steps of the
longest unfinished one. An exception that it raises ends the evaluation."""


def unwatched(finished: int, steps: int) -> None:
    """Do nothing: nobody follows the evaluation."""


def watch_from(watch: Watch, start: int) -> Watch:
    """Return a `Watch` for some of an evaluation's episodes, which come after `start` others."""
    return lambda finished, steps: watch(start + finished, steps)


class Evaluator(abc.ABC):
    """Plays batches of evaluation episodes with the current weights of a policy."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Compile the functions that `play` calls."""

    @abc.abstractmethod
    def play(self, counter: int, watch: Watch = unwatched) -> tuple[np.ndarray, np.ndarray]:
        """Play one batch of episodes.

        Args:
          counter: Number of the batch. The seed of the evaluator and this number determine the
            initial states, whatever the policy, and the episodes of a given policy.
          watch: Called between the steps of episodes outside the graph.

        Returns:
          Undiscounted returns, float32 [num_episodes], and lengths, int32 [num_episodes].
        """

    def warnings(self) -> list[str]:
        """Return warnings for the user that came up since the last call."""
        return []

    @abc.abstractmethod
    def close(self) -> None:
        """Close the environments that the evaluator has opened."""
