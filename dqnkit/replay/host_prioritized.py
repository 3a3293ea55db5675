"""Prioritized replay in NumPy."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from dqnkit.config.fields import required
from dqnkit.config.sections import ReplayConfig
from dqnkit.envs.specs import EnvSpec
from dqnkit.replay.base import Sample
from dqnkit.replay.host_sum_tree import HostSumTree
from dqnkit.replay.host_uniform import HostUniformReplay
from dqnkit.replay.priorities import priorities_from_td_errors


class HostPrioritizedReplay(HostUniformReplay):
    """Proportional prioritization (Schaul et al., 2016) on the rings of `HostUniformReplay`.

    Priorities are those of `graph_prioritized.GraphPrioritizedReplay`. Rows at which no transition
    starts have priority 0.
    """

    _PRIORITY_BYTES = 9  # a float64 leaf, and its share of the upper levels

    def __init__(
        self,
        config: ReplayConfig,
        num_envs: int,
        spec: EnvSpec,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """Allocate the rings and the sum tree.

        Args:
          config: The resolved replay section, which gives the length and alpha.
          num_envs: Number of environments, each with a ring of its own.
          spec: Specification of the environment.
          n_step: Number of rewards summed in a sampled transition.
          gamma: Discount factor in that sum.

        Raises:
          ConfigError: If the replay does not fit into memory, or is too small for a transition.
        """
        super().__init__(config.replay_buffer_max_length, num_envs, spec, n_step, gamma)
        self._alpha = required(config.alpha)
        self._tree = HostSumTree(len(self._flags))
        self._highest = np.ones(1)

    @override
    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """Draw `size` transitions with replacement, in proportion to their priorities."""
        if not self._tree.total:
            raise ValueError("the replay holds no transitions: there is nothing to sample")
        rows = self._tree.query(rng.random(size))
        return self.transitions(rows)._replace(priorities=self._tree.leaves[rows])

    @override
    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        priorities = priorities_from_td_errors(td_errors.astype(np.float64), self._alpha)
        self._tree.set(rows, priorities)
        self._highest[0] = max(self._highest[0], priorities.max())

    @override
    def state(self) -> dict[str, np.ndarray]:
        return super().state() | {"highest": self._highest.copy()}

    @override
    def restore(self, state: dict[str, np.ndarray]) -> None:
        super().restore(state)
        self._highest[:] = state["highest"]
        self._tree.refresh()

    @override
    def _columns(self) -> dict[str, np.ndarray]:
        return super()._columns() | {"priorities": self._tree.leaves}

    @override
    def _on_flags_changed(self, rows: np.ndarray) -> None:
        self._tree.set(rows, np.where(self._starts(rows), self._highest[0], 0.0))
