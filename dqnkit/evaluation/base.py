"""Interface of evaluators."""

from __future__ import annotations

from typing import Protocol

import numpy as np


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
