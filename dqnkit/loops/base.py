"""The interface of a training loop, and the metrics that it returns."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dqnkit._system.arrays import Arrays


@dataclass(frozen=True)
class IntervalMetrics:
    """Training metrics of one log interval."""

    iteration: int
    """Iterations done at the end of the interval."""
    env_steps: int
    """Environment steps done at the end of the interval, initial collection included."""
    loss: float
    """Mean loss of the updates; NaN if there were none."""
    exploration: float
    """Mean epsilon, or mean temperature, over the environment steps."""
    episodes: int
    """Number of episodes that ended."""
    return_mean: float
    """Mean undiscounted return of these episodes; NaN if there were none."""
    length_mean: float
    """Mean length of these episodes; NaN if there were none."""


class IntervalSums(NamedTuple):
    """Counters at the end of a log interval, and counts and sums over it."""

    iteration: float
    env_steps: float
    updates: float
    loss: float
    steps: float
    exploration: float
    episodes: float
    returns: float
    lengths: float

    def metrics(self) -> IntervalMetrics:
        """Return the means: of the loss over updates, of exploration over steps."""

        def mean(total: float, count: float) -> float:
            return float(total / count) if count else math.nan

        return IntervalMetrics(
            iteration=int(self.iteration),
            env_steps=int(self.env_steps),
            loss=mean(self.loss, self.updates),
            exploration=mean(self.exploration, self.steps),
            episodes=int(self.episodes),
            return_mean=mean(self.returns, self.episodes),
            length_mean=mean(self.lengths, self.episodes),
        )


class Loop(abc.ABC):
    """Training that advances by chunks of iterations.

    One iteration collects `collect_steps_per_iteration` steps in each environment, then makes
    `gradient_steps_per_iteration` updates.
    """

    @property
    @abc.abstractmethod
    def iteration(self) -> int:
        """Number of iterations done."""

    @property
    @abc.abstractmethod
    def env_steps(self) -> int:
        """Number of environment steps done, initial collection included."""

    @abc.abstractmethod
    def check(self) -> None:
        """Check that training can begin from the current state, new or restored.

        Raises:
          ConfigError: If the replay holds the experience of another run.
          ReplayError: If the replay server does not answer.
        """

    @abc.abstractmethod
    def compile(self) -> None:
        """Compile the functions that the other methods call."""

    @abc.abstractmethod
    def fill(self, seconds: float = math.inf) -> bool:
        """Take the initial steps of a new run, with random actions.

        Args:
          seconds: Time after which to return before all steps are done.

        Returns:
          True if all are done.
        """

    def start(self) -> None:
        """Compile the loop, and take the initial steps of a new run."""
        self.compile()
        self.fill()

    @abc.abstractmethod
    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        """Train for some iterations; return metrics of the log intervals that ended in them."""

    @abc.abstractmethod
    def flush(self) -> list[IntervalMetrics]:
        """Return metrics of the log interval under way, if it holds any, and begin a new one."""

    def warnings(self) -> list[str]:
        """Return warnings for the user that came up since the last call."""
        return []

    def observation_magnitudes(self) -> dict[str, float]:
        """Return the greatest magnitude in the current observations, by the name of each array.

        The result is empty where it is not known.
        """
        return {}

    @abc.abstractmethod
    def policy_weights(self) -> np.ndarray:
        """Return the current weights of the greedy policy, float32 [n]."""

    @abc.abstractmethod
    def state(self) -> Arrays:
        """Return everything that decides how training continues, as named arrays."""

    @abc.abstractmethod
    def restore(self, state: Arrays) -> None:
        """Set the loop to a `state` of a loop with the same configuration.

        Raises:
          ConfigError: If the state is of another kind of loop or another configuration.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the environments, processes and connections that the loop has opened."""
