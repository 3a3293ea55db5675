"""Prioritized replay in the graph."""

from __future__ import annotations

from typing import NamedTuple

from dqnkit._system.random_bits import uniform
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.config.fields import required
from dqnkit.config.sections import ReplayConfig
from dqnkit.envs.transitions import Transitions
from dqnkit.replay.graph_sum_tree import GraphSumTree, Levels
from dqnkit.replay.graph_uniform import Batch, GraphUniformReplay, ReplayState
from dqnkit.replay.priorities import priorities_from_td_errors as priorities_of


class Priorities(NamedTuple):
    """Of each transition, to the power of alpha."""

    levels: Levels
    """Of the tree whose leaves they are."""
    highest: Tensor
    """Ever, float32 scalar: what a new transition begins with."""


class GraphPrioritizedReplay(GraphUniformReplay):
    """Proportional prioritization (Schaul et al., 2016), over the ring of `GraphUniformReplay`.

    A transition is drawn with probability P in proportion to (|td_error| + 1e-6) ** alpha; a new
    one begins with the highest priority so far. Importance weights are P ** -beta over the greatest
    of them in the batch, as in DQN Zoo.
    """

    _PRIORITY_BYTES = 5  # a leaf of 4, and its share of the tree above

    def __init__(
        self,
        config: ReplayConfig,
        block: int,
        observation_size: int,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """As `GraphUniformReplay`, with alpha from the configuration."""
        super().__init__(config.replay_buffer_max_length, block, observation_size, n_step, gamma)
        self._alpha = required(config.alpha)
        self._tree = GraphSumTree(self.capacity)

    def initial_state(self) -> ReplayState:
        """See `GraphUniformReplay`."""
        priorities = Priorities(self._tree.initial_state(), tf.constant(1.0))
        return super().initial_state()._replace(priorities=priorities)

    def add(self, state: ReplayState, transitions: Transitions, done: Tensor) -> ReplayState:
        """See `GraphUniformReplay`."""
        levels, highest = state.priorities
        rows = self._next_row(state) + tf.range(self.block)
        levels = self._tree.put(levels, rows, tf.fill([self.block], highest))
        state = super().add(state, transitions, done)
        return state._replace(priorities=Priorities(levels, highest))

    def sample(self, state: ReplayState, bits: Tensor, beta: Tensor) -> Batch:
        """See `GraphUniformReplay`."""
        leaves = state.priorities.levels
        rows = self._tree.find(leaves, uniform(bits))
        priorities = tf.gather(leaves[0], rows)
        relative = priorities / tf.reduce_min(priorities)
        weights = relative ** tf.cast(-beta, tf.float32)
        return Batch(self._transitions(state, rows), rows, weights)

    def update_priorities(self, state: ReplayState, rows: Tensor, td_errors: Tensor) -> ReplayState:
        """See `GraphUniformReplay`."""
        levels, highest = state.priorities
        priorities = priorities_of(td_errors, self._alpha)
        levels = self._tree.put(levels, rows, priorities)
        highest = tf.maximum(highest, tf.reduce_max(priorities))
        return state._replace(priorities=Priorities(levels, highest))
