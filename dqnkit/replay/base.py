"""The interface of the host loop's replay."""

from __future__ import annotations

import abc
from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """A batch of transitions in the layout that the compiled update takes."""

    frames: np.ndarray
    """Frames [B, frames_per_sample, *frame_shape] in order of time: the first `frame_stack` are the
    observation, the last `frame_stack` the next observation."""
    scalars: np.ndarray
    """Action, reward and discount, float32 [B, 3]."""
    rows: np.ndarray
    """Identifiers of the transitions for `HostReplay.update_priorities`, integers [B]."""
    priorities: np.ndarray | None = None
    """Priorities, to which the sampling probabilities are proportional, float64 [B]; None if
    sampling is uniform."""


class HostReplay(abc.ABC):
    """Transitions of several environments, made from the frames that are added one after another.

    Sampled rewards are n-step returns, which end with the episode.
    """

    frames_per_sample: int
    """Number of frames in a sampled transition."""

    @property
    @abc.abstractmethod
    def num_transitions(self) -> int:
        """Number of transitions that can be sampled."""

    @abc.abstractmethod
    def check(self) -> None:
        """Check that the contents belong to this run.

        Raises:
          ConfigError: If the replay's server holds transitions that another run collected.
        """

    @abc.abstractmethod
    def begin(self, envs: np.ndarray, frames: np.ndarray) -> None:
        """Start episodes.

        Args:
          envs: Indices of the environments, int [K].
          frames: First frames of the episodes, [K, *frame_shape].
        """

    @abc.abstractmethod
    def add(
        self,
        envs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        frames: np.ndarray,
    ) -> None:
        """Add one step of some environments, taken from their latest frames.

        Args:
          envs: Indices of the environments, int [K], all different.
          actions: Actions, counted from 0, int [K].
          rewards: Rewards, float32 [K].
          terminated: True where the step reached a terminal state, bool [K].
          frames: Frames that the actions led to, [K, *frame_shape].
        """

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """Draw `size` transitions with replacement.

        Raises:
          ValueError: If there are no transitions.
        """

    @abc.abstractmethod
    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        """Update the priorities of sampled transitions from their TD errors.

        Args:
          rows: `Sample.rows` of the transitions, [B].
          td_errors: TD errors, float32 [B].
        """

    @abc.abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return the whole contents as arrays, for `restore`."""

    @abc.abstractmethod
    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Replace the contents by a `state`; its unfinished episodes are not continued.

        Raises:
          ConfigError: If the state is that of a replay with another configuration.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release servers and connections that the replay has opened."""
