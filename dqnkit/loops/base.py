"""The interface of a training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from dqnkit.agents.policies import Weights

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class IntervalMetrics:
    """Training metrics over one log interval."""

    iteration: int
    """Iterations done at its end."""
    env_steps: int
    """Environment steps done at its end, initial collection included."""
    loss: float
    """Mean loss of its updates; NaN if it had none."""
    exploration: float
    """Mean epsilon of its steps, or mean temperature."""
    episodes: int
    """Episodes that ended in it."""
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
        """Means: the loss by updates, exploration by steps, the rest by episodes."""

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


class Loop(Protocol):
    """Training in chunks. A loop returns metrics and logs nothing."""

    @property
    def iteration(self) -> int:
        """Iterations done."""

    @property
    def env_steps(self) -> int:
        """Environment steps done, initial collection included."""

    def check(self) -> None:
        """Looks whether training can begin with what is there, new or restored.

        Raises:
          ConfigError: It cannot.
          ReplayError: The server of its replay does not answer.
        """

    def start(self) -> None:
        """Compiles what it will run, and fills the replay with the initial steps."""

    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        """Trains for some iterations; gives the log intervals that ended in them."""

    def flush(self) -> list[IntervalMetrics]:
        """IntervalMetrics of the log interval that is under way, if it has any; it starts anew."""

    def notes(self) -> list[str]:
        """What the user should know of the time since the last call."""

    def policy_weights(self) -> Weights:
        """The weights that a greedy policy would play with now."""

    def state(self) -> Arrays:
        """All that decides how training goes on, as named arrays."""

    def restore(self, state: Arrays) -> None:
        """Goes back to a `state` of a loop of the same configuration.

        Raises:
          ConfigError: It is not one.
        """

    def close(self) -> None:
        """Ends the environments."""
