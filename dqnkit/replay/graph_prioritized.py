"""Prioritized replay in the graph."""

from __future__ import annotations

from typing import NamedTuple

from typing_extensions import override

from dqnkit._system.random_bits import uniform
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.config.fields import required
from dqnkit.config.sections import ReplayConfig
from dqnkit.envs.transitions import Transitions
from dqnkit.replay.graph_sum_tree import GraphSumTree, Levels
from dqnkit.replay.graph_uniform import Batch, GraphUniformReplay, ReplayState
from dqnkit.replay.priorities import priorities_from_td_errors


class Priorities(NamedTuple):
    """Priorities of all transitions; they already include the exponent alpha."""

    levels: Levels
    """Sum tree whose leaves are the priorities."""
    highest: Tensor
    """Highest priority so far, float32 scalar, which new transitions start with."""


class GraphPrioritizedReplay(GraphUniformReplay):
    """Proportional prioritization (Schaul et al., 2016) on the ring of `GraphUniformReplay`.

    A transition is drawn with a probability P proportional to (|td_error| + 1e-6) ** alpha; a new
    one starts with the highest priority so far. Importance weights are P ** -beta divided by their
    maximum in the batch, as in DQN Zoo.
    """

    _PRIORITY_BYTES = 5  # a float32 leaf, and its share of the upper levels

    def __init__(
        self,
        config: ReplayConfig,
        num_envs: int,
        observation_size: int,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """Compute the layout of the table and of the sum tree.

        Args:
          config: The resolved replay section, which gives the length and alpha.
          num_envs: Number of environments, each of which adds one transition at a time.
          observation_size: Number of values in an observation.
          n_step: Number of rewards summed in a sampled transition.
          gamma: Discount factor in that sum.

        Raises:
          ConfigError: If the replay does not fit into memory.
        """
        super().__init__(config.replay_buffer_max_length, num_envs, observation_size, n_step, gamma)
        self._alpha = required(config.alpha)
        self._tree = GraphSumTree(self.capacity)

    @override
    def initial_state(self) -> ReplayState:
        priorities = Priorities(self._tree.initial_state(), tf.constant(1.0))
        return super().initial_state()._replace(priorities=priorities)

    @override
    def add(self, state: ReplayState, transitions: Transitions, done: Tensor) -> ReplayState:
        levels, highest = state.priorities
        rows = self._next_row(state) + tf.range(self.num_envs)
        levels = self._tree.set(levels, rows, tf.fill([self.num_envs], highest))
        state = super().add(state, transitions, done)
        return state._replace(priorities=Priorities(levels, highest))

    @override
    def sample(self, state: ReplayState, bits: Tensor, beta: Tensor) -> Batch:
        levels = state.priorities.levels
        rows = self._tree.query(levels, uniform(bits))
        priorities = tf.gather(levels[0], rows)
        relative = priorities / tf.reduce_min(priorities)
        weights = relative ** tf.cast(-beta, tf.float32)
        return Batch(self._transitions(state, rows), rows, weights)

    @override
    def update_priorities(self, state: ReplayState, rows: Tensor, td_errors: Tensor) -> ReplayState:
        levels, highest = state.priorities
        priorities = priorities_from_td_errors(td_errors, self._alpha)
        levels = self._tree.set(levels, rows, priorities)
        highest = tf.maximum(highest, tf.reduce_max(priorities))
        return state._replace(priorities=Priorities(levels, highest))
