"""Behaviour policies, for tensors in a compiled graph and for NumPy arrays on the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dqnkit._system.random_bits import below, uniform
from dqnkit._system.tensorflow import Tensor, tf

HostQValues = Callable[[], np.ndarray]
"""Function that computes Q-values, float32 [B, num_actions]."""


def epsilon_greedy(
    q_values: Tensor, epsilon: Tensor, explore_bits: Tensor, action_bits: Tensor
) -> Tensor:
    """Select a random action with probability epsilon, else the first action of highest value.

    Args:
      q_values: Q-values, float32 [B, num_actions].
      epsilon: Probability of a random action, float64 scalar.
      explore_bits: Random bits that decide between exploring and exploiting, uint32 [B].
      action_bits: Random bits that decide the random action, uint32 [B].

    Returns:
      Actions, int32 [B].
    """
    greedy = tf.argmax(q_values, axis=1, output_type=tf.int32)
    random = below(action_bits, q_values.shape[1])
    return tf.where(uniform(explore_bits) < epsilon, random, greedy)


def boltzmann(
    q_values: Tensor, temperature: Tensor, explore_bits: Tensor, action_bits: Tensor
) -> Tensor:
    """Sample an action with probability in proportion to exp(Q / temperature).

    Args:
      q_values: Q-values, float32 [B, num_actions].
      temperature: Temperature above 0, float64 scalar.
      explore_bits: Random bits that decide the action, uint32 [B].
      action_bits: Unused; present so that all policies have one signature.

    Returns:
      Actions, int32 [B].
    """
    del action_bits
    values = tf.cast(q_values, tf.float64)
    values -= tf.reduce_max(values, axis=1, keepdims=True)
    cumulative = tf.cumsum(tf.exp(values / temperature), axis=1)
    target = uniform(explore_bits)[:, None] * cumulative[:, -1:]
    return tf.reduce_sum(tf.cast(cumulative <= target, tf.int32), axis=1)


GRAPH_POLICIES: dict[str, Callable[..., Tensor]] = {
    "epsilon_greedy": epsilon_greedy,
    "boltzmann": boltzmann,
}
"""Policies of the graph loop by the value of `exploration.policy`."""


def host_epsilon_greedy(
    q_values: HostQValues, epsilon: float, rng: np.random.Generator, shape: tuple[int, int]
) -> np.ndarray:
    """Select a random action with probability epsilon, else the first action of highest value.

    Args:
      q_values: Function that returns Q-values, float32 [B, num_actions]. It is called only if at
        least one environment does not explore.
      epsilon: Probability of a random action.
      rng: Random number generator.
      shape: Shape of the Q-values, (B, num_actions).

    Returns:
      Actions, int64 [B].
    """
    actions = rng.integers(shape[1], size=shape[0])
    explores = rng.random(shape[0]) < epsilon
    if explores.all():
        return actions
    return np.where(explores, actions, q_values().argmax(axis=1))


def host_boltzmann(
    q_values: HostQValues, temperature: float, rng: np.random.Generator, shape: tuple[int, int]
) -> np.ndarray:
    """Sample an action with probability in proportion to exp(Q / temperature).

    Args:
      q_values: Function that returns Q-values, float32 [B, num_actions].
      temperature: Temperature above 0.
      rng: Random number generator.
      shape: Shape of the Q-values, (B, num_actions).

    Returns:
      Actions, int64 [B].
    """
    values = q_values().astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    cumulative = np.exp(values / temperature).cumsum(axis=1)
    target = rng.random(shape[0])[:, None] * cumulative[:, -1:]
    actions: np.ndarray = (cumulative <= target).sum(axis=1)
    return actions


HOST_POLICIES: dict[str, Callable[..., np.ndarray]] = {
    "epsilon_greedy": host_epsilon_greedy,
    "boltzmann": host_boltzmann,
}
"""Policies of the host loop by the value of `exploration.policy`."""
