"""Environments with a transition table, as TensorFlow operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.envs.transition_table import TransitionTable


@dataclass(frozen=True, eq=False)  # arrays cannot be hashed
class Tabular:
    """A finite Markov decision process: FrozenLake, CliffWalking and Taxi.

    State and observation are the index of the state. Outcomes are drawn by Gymnasium's rule: the
    first outcome whose cumulative probability exceeds a uniform random number.
    """

    id: str
    table: TransitionTable
    max_episode_steps: int
    observation_size: int = 1
    state_size: int = 1
    num_reset_uniforms: int = 1

    @property
    def num_actions(self) -> int:
        """Number of actions in the table."""
        return int(self.table.next_state.shape[1])

    @property
    def num_step_uniforms(self) -> int:
        """1, or 0 if every action has a single outcome."""
        return int(self.table.next_state.shape[2] > 1)

    def reset(self, uniforms: Tensor) -> Tensor:
        """Draw initial states from the table's initial distribution."""
        return tf.cast(_pick(np.cumsum(self.table.initial_probability), uniforms), tf.float64)

    def step(self, state: Tensor, action: Tensor, uniforms: Tensor) -> tuple[Tensor, ...]:
        """Draw an outcome of each action from the table."""
        num_actions, num_outcomes = self.table.next_state.shape[1:]
        row = tf.cast(state[:, 0], tf.int32) * num_actions + action
        if num_outcomes > 1:
            cumulative = np.cumsum(self.table.probability, axis=2).reshape(-1, num_outcomes)
            outcome = _pick(tf.gather(tf.constant(cumulative), row), uniforms)[:, 0]
            row = row * num_outcomes + outcome

        def look_up(table: np.ndarray) -> Tensor:
            return tf.gather(tf.constant(table.reshape(-1)), row)

        return (
            look_up(self.table.next_state.astype(np.float64))[:, None],
            look_up(self.table.reward.astype(np.float32)),
            look_up(self.table.terminated),
        )

    def observe(self, state: Tensor) -> Tensor:
        """Return the indices of the states as float32."""
        return tf.cast(state, tf.float32)


def _pick(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """Return the first indices at which cumulative probabilities exceed uniform numbers.

    Args:
      cumulative: Cumulative probabilities, float64 [K] or [B, K].
      uniforms: Uniform random numbers in [0, 1), float64 [B, 1].

    Returns:
      Indices below K, int32 [B, 1].
    """
    exceeds = tf.cast(tf.convert_to_tensor(cumulative) > uniforms, tf.int32)
    return tf.argmax(exceeds, axis=-1, output_type=tf.int32)[:, None]
