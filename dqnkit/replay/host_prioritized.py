"""Prioritized replay in NumPy."""

from __future__ import annotations

import numpy as np

from dqnkit.config.fields import required
from dqnkit.config.sections import ReplayConfig
from dqnkit.envs.specs import EnvSpec
from dqnkit.replay.base import Sample
from dqnkit.replay.host_sum_tree import HostSumTree
from dqnkit.replay.host_uniform import HostUniformReplay
from dqnkit.replay.priorities import priorities_from_td_errors as priorities_of


class HostPrioritizedReplay(HostUniformReplay):
    """Proportional prioritization (Schaul et al., 2016), over the rings of `HostUniformReplay`.

    As `graph_prioritized.GraphPrioritizedReplay`. Rows at which no transition starts have priority 0.
    """

    _PRIORITY_BYTES = 9  # a leaf of 8, and its share of the tree above

    def __init__(
        self,
        config: ReplayConfig,
        num_envs: int,
        spec: EnvSpec,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """As `HostUniformReplay`, with alpha from the configuration."""
        super().__init__(config.replay_buffer_max_length, num_envs, spec, n_step, gamma)
        self._alpha = required(config.alpha)
        self._tree = HostSumTree(len(self._flags))
        self._highest = np.ones(1)

    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """`size` transitions, each with probability in proportion to its priority."""
        if not self._tree.total:
            raise ValueError("a replay without transitions has nothing to sample")
        rows = self._tree.find(rng.random(size))
        return self.transitions(rows)._replace(priorities=self._tree.leaves[rows])

    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        """See `HostUniformReplay`."""
        priorities = priorities_of(td_errors.astype(np.float64), self._alpha)
        self._tree.put(rows, priorities)
        self._highest[0] = max(self._highest[0], priorities.max())

    def state(self) -> dict[str, np.ndarray]:
        """See `HostUniformReplay`."""
        return super().state() | {"highest": self._highest.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """See `HostUniformReplay`."""
        super().restore(state)
        self._highest[:] = state["highest"]
        self._tree.refresh()

    def _columns(self) -> dict[str, np.ndarray]:
        return super()._columns() | {"priorities": self._tree.leaves}

    def _flagged(self, rows: np.ndarray) -> None:
        self._tree.put(rows, np.where(self._starts(rows), self._highest[0], 0.0))
