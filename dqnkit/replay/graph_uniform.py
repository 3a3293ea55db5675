"""Uniform replay as a pure function of its state, made for a compiled loop."""

from __future__ import annotations

from typing import Any, NamedTuple

from dqnkit._system.memory import check_replay_fits_memory
from dqnkit._system.random_bits import below
from dqnkit._system.tensorflow import Tensor, tf, xla
from dqnkit.envs.transitions import Transitions


class ReplayState(NamedTuple):
    """The contents."""

    table: Tensor
    """float32 [capacity, row width]: observation, action, reward, discount, next observation, and
    whether the episode ended there."""
    added: Tensor
    """Transitions ever added, int64 scalar."""
    priorities: Any = ()
    """What decides how often each is sampled; nothing where that is the same for all."""


class Batch(NamedTuple):
    """What an update learns from."""

    transitions: Transitions
    rows: Tensor
    """Where they are kept, int32 [B]."""
    importance_weights: Tensor | None
    """Of their losses, float32 [B]; None where all count the same."""


class GraphUniformReplay:
    """A ring of transitions that are sampled uniformly, with replacement.

    All fields of a transition lie in one float32 row: under XLA one slice writes them and one
    gather reads a batch, which a table a field takes several times as long for. float32 holds
    every action number below 2**24 exactly.

    Returns over several steps are added up when they are sampled, from the rows that follow: an
    environment's next step lies a block further. They end with the episode, and at the newest
    step, from whose observation they bootstrap like any other.
    """

    _PRIORITY_BYTES = 0

    def __init__(
        self,
        max_length: int,
        block: int,
        observation_size: int,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """Lays out the table.

        Args:
          max_length: Transitions kept at most.
          block: Transitions added at a time, one of each environment. The capacity is the largest
            multiple of it that `max_length` holds, so that no block wraps around.
          observation_size: Numbers in an observation.
          n_step: Rewards that a sampled transition sums.
          gamma: What a reward of the next step is discounted by in that sum.

        Raises:
          ConfigError: The table is larger than the machine's memory.
        """
        self.capacity = max_length // block * block
        self.block = block
        self._sizes = [observation_size, 1, 1, 1, observation_size, 1]
        self._n_step, self._gamma = n_step, gamma
        bytes_per_row = 4 * sum(self._sizes) + self._PRIORITY_BYTES
        check_replay_fits_memory(max_length, self.capacity * bytes_per_row)

    def initial_state(self) -> ReplayState:
        """An empty replay."""
        return ReplayState(tf.zeros([self.capacity, sum(self._sizes)]), tf.constant(0, tf.int64))

    def add(self, state: ReplayState, transitions: Transitions, done: Tensor) -> ReplayState:
        """Writes one block over the oldest rows.

        Args:
          state: Before.
          transitions: A step of each environment.
          done: Whether its episode ended with it, either way; bool [block].
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
        return state._replace(table=table, added=state.added + self.block)

    def sample(self, state: ReplayState, bits: Tensor, beta: Tensor) -> Batch:
        """A batch from random bits, uint32 [B]: one transition for each.

        Args:
          state: The contents.
          bits: Decide.
          beta: Exponent of importance weights, where there are any; float64 scalar.
        """
        del beta
        rows = below(bits, tf.minimum(state.added, self.capacity))
        return Batch(self._transitions(state, rows), rows, None)

    def update_priorities(self, state: ReplayState, rows: Tensor, td_errors: Tensor) -> ReplayState:
        """Takes note of what transitions that were sampled came to, float32 [B]."""
        del rows, td_errors
        return state

    def _next_row(self, state: ReplayState) -> Tensor:
        return tf.cast(tf.math.floormod(state.added, self.capacity), tf.int32)

    def _transitions(self, state: ReplayState, rows: Tensor) -> Transitions:
        """Those that start at rows int32 [B], over as many steps as there are."""
        observation, action, reward, discount, next_observation, done = self._read(state, rows)
        steps_left = self._blocks_behind(state, rows)
        goes_on, discounting = 1.0 - done, 1.0
        for step in range(1, self._n_step):
            discounting *= self._gamma
            following = tf.math.floormod(rows + step * self.block, self.capacity)
            _, _, next_reward, next_discount, further, next_done = self._read(state, following)
            goes_on *= tf.cast(steps_left >= step, tf.float32)
            reward += goes_on * discounting * next_reward
            discount = tf.where(goes_on > 0.0, discounting * next_discount, discount)
            next_observation = tf.where(goes_on[:, None] > 0.0, further, next_observation)
            goes_on *= 1.0 - next_done
        return Transitions(
            observation, tf.cast(action, tf.int32), reward, discount, next_observation
        )

    def _read(self, state: ReplayState, rows: Tensor) -> list[Tensor]:
        """The columns of some rows; those of a single number as [B]."""
        columns = tf.split(tf.gather(state.table, rows), self._sizes, axis=1)
        numbers = {1, 2, 3, 5}
        return [x[:, 0] if i in numbers else x for i, x in enumerate(columns)]

    def _blocks_behind(self, state: ReplayState, rows: Tensor) -> Tensor:
        """Steps that were added after those at some rows, int32 [B]."""
        newest = self._next_row(state) // self.block - 1
        return tf.math.floormod(newest - rows // self.block, self.capacity // self.block)
