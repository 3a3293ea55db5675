"""The interface of evaluators."""

from __future__ import annotations

import abc

import numpy as np


class Evaluator(abc.ABC):
    """Plays batches of evaluation episodes with the current weights of a policy."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Compile the functions that `play` calls."""

    @abc.abstractmethod
    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        """Play one batch of episodes.

        Args:
          counter: Number of the batch. The seed of the evaluator and this number determine the
            initial states, whatever the policy, and the episodes of a given policy.

        Returns:
          Undiscounted returns, float32 [num_episodes], and lengths, int32 [num_episodes].
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the environments."""
