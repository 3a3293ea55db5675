"""Schedules of exploration, as functions of the environment step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dqnkit.config import ExplorationConfig

Schedule = Callable[[Any], Any]
"""From an environment step to a value: numbers, or scalar tensors of float64."""


def epsilon_schedule(config: ExplorationConfig, minimum: Callable[..., Any] = min) -> Schedule:
    """Epsilon of the behaviour policy at each environment step.

    Args:
      config: The schedule.
      minimum: `tf.minimum` makes it a schedule for tensors.
    """
    initial, final = config.initial_epsilon, config.epsilon
    if config.schedule == "constant":
        return lambda _: final
    return lambda step: initial + (final - initial) * minimum(step / config.decay_steps, 1.0)
