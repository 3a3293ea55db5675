"""Schedules of exploration, as functions of the environment step."""

from __future__ import annotations

from collections.abc import Callable

from dqnkit.config import ExplorationConfig
from dqnkit.runtime import Tensor, tf

Schedule = Callable[[Tensor], Tensor]
"""From an environment step (int64 scalar) to a value (float64 scalar)."""


def epsilon_schedule(config: ExplorationConfig) -> Schedule:
    """Epsilon of the behaviour policy at each environment step."""
    final = tf.constant(config.epsilon, tf.float64)
    if config.schedule == "constant":
        return lambda _: final
    initial = tf.constant(config.initial_epsilon, tf.float64)

    def linear(step: Tensor) -> Tensor:
        progress = tf.cast(step, tf.float64) / float(config.decay_steps)
        return initial + (final - initial) * tf.minimum(progress, 1.0)

    return linear
