"""Returns and lengths of episodes, and sums over a log interval, outside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple, Self

import numpy as np

from dqnkit._system.arrays import Arrays
from dqnkit.envs.vector import Step
from dqnkit.loops.base import IntervalMetrics, IntervalSums


class EndedEpisode(NamedTuple):
    """An episode that has ended."""

    undiscounted_return: float
    length: float


class EpisodeStats:
    """Running returns and lengths of the episodes of several environments."""

    def __init__(self, num_envs: int) -> None:
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs)

    def add(self, step: Step) -> list[EndedEpisode]:
        """Add a step of all environments; return the episodes that ended with it."""
        self._returns += np.where(step.stepped, step.reward, 0.0)
        self._lengths += step.stepped
        over = step.done & step.stepped
        if not over.any():
            return []
        columns = (self._returns[over].tolist(), self._lengths[over].tolist())
        self._returns[over] = self._lengths[over] = 0.0
        return [EndedEpisode(*each) for each in zip(*columns, strict=True)]


@dataclass
class HostInterval:
    """Sums over the log interval under way."""

    updates: float = 0.0
    loss: float = 0.0
    steps: float = 0.0
    exploration: float = 0.0
    episodes: float = 0.0
    returns: float = 0.0
    lengths: float = 0.0

    def add_episodes(self, ended: Sequence[EndedEpisode]) -> None:
        """Count episodes that ended."""
        self.episodes += len(ended)
        self.returns += sum(each.undiscounted_return for each in ended)
        self.lengths += sum(each.length for each in ended)

    def metrics(self, iteration: int, env_steps: int) -> IntervalMetrics:
        """Return the means of the interval, which ends at the given counters."""
        return IntervalSums(iteration, env_steps, **vars(self)).metrics()

    def arrays(self) -> Arrays:
        """Return the sums as arrays, for a checkpoint."""
        return {name: np.array(value) for name, value in asdict(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Return the interval whose `arrays` are given."""
        return cls(**{each.name: float(arrays[each.name]) for each in fields(cls)})
