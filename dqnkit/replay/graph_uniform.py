"""Uniform replay as a pure function of its state, for use in a compiled loop."""

from __future__ import annotations

from typing import Any, NamedTuple

from dqnkit._system.memory import check_replay_fits_memory
from dqnkit._system.random_bits import below
from dqnkit._system.tensorflow import Tensor, tf, xla
from dqnkit.envs.transitions import Transitions


class ReplayState(NamedTuple):
    """Contents of a replay."""

    table: Tensor
    """Transitions, float32 [capacity, row width]: observation, action, reward, discount, next
    observation, and 1 if the episode ended there, else 0."""
    added: Tensor
    """Number of transitions added since the start, int64 scalar."""
    priorities: Any = ()
    """Priorities of the transitions; empty if sampling is uniform."""


class Batch(NamedTuple):
    """A sampled batch of transitions."""

    transitions: Transitions
    rows: Tensor
    """Rows of the transitions in the table, int32 [B]."""
    importance_weights: Tensor | None
    """Weights of the losses, float32 [B]; None if sampling is uniform."""


class GraphUniformReplay:
    """A ring buffer of transitions, sampled uniformly with replacement.

    All fields of a transition lie in one float32 row. Under XLA, one slice then writes a step and
    one gather reads a batch; a table per field takes several times as long. float32 holds action
    numbers below 2**24 exactly.

    n-step returns are summed when they are sampled, from the rows that follow: an environment's
    next step lies `num_envs` rows further. They end with the episode or at the newest step, where
    they bootstrap from its next observation.
    """

    _PRIORITY_BYTES = 0

    def __init__(
        self,
        max_length: int,
        num_envs: int,
        observation_size: int,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """Compute the layout of the table.

        Args:
          max_length: Maximum number of transitions. The capacity is the largest multiple of
            `num_envs` up to it, so that no step wraps around the end of the table.
          num_envs: Number of environments, each of which adds one transition at a time.
          observation_size: Number of values in an observation.
          n_step: Number of rewards summed in a sampled transition.
          gamma: Discount factor in that sum.

        Raises:
          ConfigError: If the table does not fit into memory.
        """
        self.capacity = max_length // num_envs * num_envs
        self.num_envs = num_envs
        self._sizes = [observation_size, 1, 1, 1, observation_size, 1]
        self._n_step, self._gamma = n_step, gamma
        bytes_per_row = 4 * sum(self._sizes) + self._PRIORITY_BYTES
        check_replay_fits_memory(max_length, self.capacity * bytes_per_row)

    def initial_state(self) -> ReplayState:
        """Return an empty replay."""
        return ReplayState(tf.zeros([self.capacity, sum(self._sizes)]), tf.constant(0, tf.int64))

    def add(self, state: ReplayState, transitions: Transitions, done: Tensor) -> ReplayState:
        """Write one transition of each environment over the oldest rows.

        Args:
          state: Contents of the replay.
          transitions: One transition of each environment.
          done: True where the transition ended an episode, by termination or truncation, bool
            [num_envs].

        Returns:
          The new contents.
        """
        columns = [
            transitions.observation,
            tf.cast(transitions.action, tf.float32)[:, None],
            transitions.reward[:, None],
            transitions.discount[:, None],
            transitions.next_observation,
            tf.cast(done, tf.float32)[:, None],
        ]
        start = tf.stack([self._next_row(state), 0])
        table = xla.dynamic_update_slice(state.table, tf.concat(columns, axis=1), start)
        return state._replace(table=table, added=state.added + self.num_envs)

    def sample(self, state: ReplayState, bits: Tensor, beta: Tensor) -> Batch:
        """Draw a batch of B transitions with replacement.

        Args:
          state: Contents of the replay.
          bits: Random bits, uint32 [B].
          beta: Exponent of the importance weights, float64 scalar; unused if sampling is uniform.
        """
        del beta
        rows = below(bits, tf.minimum(state.added, self.capacity))
        return Batch(self._transitions(state, rows), rows, None)

    def update_priorities(self, state: ReplayState, rows: Tensor, td_errors: Tensor) -> ReplayState:
        """Update the priorities of sampled transitions from their TD errors.

        Args:
          state: Contents of the replay.
          rows: `Batch.rows` of the transitions, int32 [B].
          td_errors: TD errors, float32 [B].

        Returns:
          The new contents; unchanged if sampling is uniform.
        """
        del rows, td_errors
        return state

    def _next_row(self, state: ReplayState) -> Tensor:
        return tf.cast(tf.math.floormod(state.added, self.capacity), tf.int32)

    def _transitions(self, state: ReplayState, rows: Tensor) -> Transitions:
        """Return the transitions that start at rows, int32 [B], with their n-step returns."""
        observation, action, reward, discount, next_observation, done = self._read(state, rows)
        steps_left = self._steps_after(state, rows)
        continues, gamma_power = 1.0 - done, 1.0
        for step in range(1, self._n_step):
            gamma_power *= self._gamma
            following = tf.math.floormod(rows + step * self.num_envs, self.capacity)
            _, _, next_reward, next_discount, led_to, next_done = self._read(state, following)
            continues *= tf.cast(steps_left >= step, tf.float32)
            reward += continues * gamma_power * next_reward
            discount = tf.where(continues > 0.0, gamma_power * next_discount, discount)
            next_observation = tf.where(continues[:, None] > 0.0, led_to, next_observation)
            continues *= 1.0 - next_done
        return Transitions(
            observation, tf.cast(action, tf.int32), reward, discount, next_observation
        )

    def _read(self, state: ReplayState, rows: Tensor) -> list[Tensor]:
        """Return the columns of some rows: observations as [B, size], all others as [B]."""
        columns = tf.split(tf.gather(state.table, rows), self._sizes, axis=1)
        scalars = {1, 2, 3, 5}
        return [x[:, 0] if i in scalars else x for i, x in enumerate(columns)]

    def _steps_after(self, state: ReplayState, rows: Tensor) -> Tensor:
        """Return the number of later steps in the replay for each row, int32 [B]."""
        newest = self._next_row(state) // self.num_envs - 1
        return tf.math.floormod(newest - rows // self.num_envs, self.capacity // self.num_envs)
