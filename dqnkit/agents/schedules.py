"""Schedules of exploration and importance weights, as functions of the environment step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dqnkit.config.fields import required
from dqnkit.config.sections import Config, ExplorationConfig

Schedule = Callable[[Any], Any]
"""Function from an environment step to a value; both are numbers or float64 scalar tensors."""
Minimum = Callable[[Any, Any], Any]
"""The function `min` for numbers, or `tf.minimum` for tensors."""


def exploration_schedule(config: ExplorationConfig, minimum: Minimum = min) -> Schedule:
    """Return the schedule of epsilon, or of the temperature, of the behaviour policy.

    Args:
      config: The resolved exploration section.
      minimum: Minimum of two values of the kind that the schedule is called with.
    """
    if config.policy == "epsilon_greedy":
        initial, final = config.initial_epsilon, required(config.epsilon)
    else:
        initial, final = config.initial_temperature, required(config.temperature)
    if config.schedule == "constant":
        return lambda _: final
    start, steps = required(initial), required(config.decay_steps)
    if config.schedule == "exponential":
        return lambda step: start * (final / start) ** minimum(step / steps, 1.0)
    return _linear(start, final, steps, minimum)


def beta_schedule(config: Config, minimum: Minimum = min) -> Schedule:
    """Return the schedule of the importance weights' exponent; 0 throughout with uniform replay.

    Args:
      config: The resolved configuration.
      minimum: Minimum of two values of the kind that the schedule is called with.
    """
    replay = config.replay
    if not replay.is_prioritized:
        return lambda _: 0.0
    steps = replay.beta_steps or config.num_env_steps
    return _linear(required(replay.initial_beta), required(replay.beta), steps, minimum)


def _linear(initial: float, final: float, steps: int, minimum: Minimum) -> Schedule:
    return lambda step: initial + (final - initial) * minimum(step / steps, 1.0)
