"""What the host loop asks of a replay."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class Sample(NamedTuple):
    """A batch of transitions, as a network takes them."""

    frames: np.ndarray
    """[B, frames_per_sample, *frame_shape], the oldest first: the first `frame_stack` are the
    observation, the last `frame_stack` the next observation."""
    scalars: np.ndarray
    """float32 [B, 3]: action, reward, discount."""
    rows: np.ndarray
    """By what the replay knows them, integers [B]."""
    priorities: np.ndarray | None = None
    """What their probabilities are in proportion to, float64 [B]; None if all are the same."""


class HostReplay(Protocol):
    """Transitions of several environments, from the frames that they give one after another.

    Returns over several steps are summed here. They end with the episode.
    """

    frames_per_sample: int
    """Frames of a sampled transition."""

    @property
    def num_transitions(self) -> int:
        """Transitions that can be sampled."""

    def check(self) -> None:
        """Looks whether what it holds is this run's.

        Raises:
          ConfigError: Its server holds what another run has collected.
        """

    def begin(self, envs: np.ndarray, frames: np.ndarray) -> None:
        """Starts episodes.

        Args:
          envs: Which environments, int [K].
          frames: Their first frames, [K, *frame_shape].
        """

    def add(
        self,
        envs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        frames: np.ndarray,
    ) -> None:
        """Completes the transitions that start at the environments' newest frames.

        Args:
          envs: Which environments, int [K]; each one once.
          actions: Counted from 0, int [K].
          rewards: float32 [K].
          terminated: bool [K].
          frames: Where the actions led, [K, *frame_shape].
        """

    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """`size` transitions, with replacement.

        Raises:
          ValueError: There are none.
        """

    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        """Takes note of what transitions that were sampled came to, float32 [B]."""

    def state(self) -> dict[str, np.ndarray]:
        """All that was kept."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`; the episodes that were under way go no further.

        Raises:
          ConfigError: It is of a replay of another configuration.
        """

    def close(self) -> None:
        """Ends what it has started."""
