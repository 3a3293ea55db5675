"""Uniform replay as a pure function of its state, made for a compiled loop."""

from __future__ import annotations

from typing import NamedTuple

from dqnkit.memory import refuse_replay_beyond_memory
from dqnkit.random_bits import below
from dqnkit.runtime import Tensor, tf, xla
from dqnkit.transitions import Transitions


class ReplayState(NamedTuple):
    """The contents."""

    table: Tensor
    """float32 [capacity, row width]: observation, action, reward, discount, next observation."""
    added: Tensor
    """Transitions ever added, int64 scalar."""


class UniformReplay:
    """A ring of transitions that are sampled uniformly, with replacement.

    All fields of a transition lie in one float32 row: under XLA one slice writes them and one
    gather reads a batch, which a table a field takes several times as long for. float32 holds
    every action number below 2**24 exactly.
    """

    def __init__(self, max_length: int, block: int, observation_size: int) -> None:
        """Lays out the table.

        Args:
          max_length: Transitions kept at most.
          block: Transitions added at a time. The capacity is the largest multiple of it that
            `max_length` holds, so that no block wraps around.
          observation_size: Numbers in an observation.

        Raises:
          ConfigError: The table is larger than the machine's memory.
        """
        self.capacity = max_length // block * block
        self.block = block
        self._observation_size = observation_size
        self._width = 2 * observation_size + 3
        refuse_replay_beyond_memory(max_length, 4 * self.capacity * self._width)

    def initial_state(self) -> ReplayState:
        """An empty replay."""
        return ReplayState(tf.zeros([self.capacity, self._width]), tf.constant(0, tf.int64))

    def add(self, state: ReplayState, transitions: Transitions) -> ReplayState:
        """Writes one block over the oldest rows."""
        rows = tf.concat(
            [
                transitions.observation,
                tf.cast(transitions.action, tf.float32)[:, None],
                transitions.reward[:, None],
                transitions.discount[:, None],
                transitions.next_observation,
            ],
            axis=1,
        )
        start = tf.cast(tf.math.floormod(state.added, self.capacity), tf.int32)
        table = xla.dynamic_update_slice(state.table, rows, tf.stack([start, 0]))
        return ReplayState(table, state.added + self.block)

    def sample(self, state: ReplayState, bits: Tensor) -> Transitions:
        """A batch from random bits, uint32 [B]: one transition for each."""
        size = tf.minimum(state.added, self.capacity)
        rows = tf.gather(state.table, below(bits, size))
        sizes = [self._observation_size, 1, 1, 1, self._observation_size]
        observation, action, reward, discount, next_observation = tf.split(rows, sizes, axis=1)
        return Transitions(
            observation,
            tf.cast(action[:, 0], tf.int32),
            reward[:, 0],
            discount[:, 0],
            next_observation,
        )
