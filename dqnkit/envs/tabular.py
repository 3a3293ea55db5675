"""Environments with a transition table, as TensorFlow operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.envs.transition_table import TransitionTable


@dataclass(frozen=True, eq=False)  # its tables have no hash
class Tabular:
    """A finite Markov decision process (`Dynamics`): FrozenLake, CliffWalking, Taxi.

    The state is its own index, which is the observation too. Where a step goes is decided by
    Gymnasium's rule: the first outcome whose cumulative probability exceeds a uniform number.
    """

    id: str
    table: TransitionTable
    max_episode_steps: int
    observation_size: int = 1
    state_size: int = 1
    num_reset_uniforms: int = 1

    @property
    def num_actions(self) -> int:
        """See `Dynamics`."""
        return int(self.table.next_state.shape[1])

    @property
    def num_step_uniforms(self) -> int:
        """See `Dynamics`: none where every outcome is certain."""
        return int(self.table.next_state.shape[2] > 1)

    def reset(self, uniforms: Tensor) -> Tensor:
        """See `Dynamics.reset`."""
        return tf.cast(_pick(np.cumsum(self.table.initial_probability), uniforms), tf.float64)

    def step(self, state: Tensor, action: Tensor, uniforms: Tensor) -> tuple[Tensor, ...]:
        """See `Dynamics.step`."""
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
        """See `Dynamics.observe`."""
        return tf.cast(state, tf.float32)


def _pick(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """The first index of [..., K] whose cumulative probability exceeds a uniform [B, 1]; [B, 1]."""
    exceeds = tf.cast(tf.convert_to_tensor(cumulative) > uniforms, tf.int32)
    return tf.argmax(exceeds, axis=-1, output_type=tf.int32)[:, None]
