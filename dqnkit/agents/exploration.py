"""Actions of the behaviour policy, for tensors in the graph and for arrays on the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dqnkit._system.random_bits import below, uniform
from dqnkit._system.tensorflow import Tensor, tf


def epsilon_greedy(q_values: Tensor, epsilon: Tensor, coins: Tensor, choices: Tensor) -> Tensor:
    """A random action with probability epsilon, else the first of the best.

    Args:
      q_values: float32 [B, num_actions].
      epsilon: float64 scalar.
      coins: Random uint32 [B]: whether to explore.
      choices: Random uint32 [B]: which action then.

    Returns:
      int32 [B].
    """
    greedy = tf.argmax(q_values, axis=1, output_type=tf.int32)
    return tf.where(uniform(coins) < epsilon, below(choices, q_values.shape[1]), greedy)


def boltzmann(q_values: Tensor, temperature: Tensor, coins: Tensor, choices: Tensor) -> Tensor:
    """An action with probability in proportion to exp(Q / temperature); as `epsilon_greedy`."""
    del choices
    values = tf.cast(q_values, tf.float64)
    values -= tf.reduce_max(values, axis=1, keepdims=True)
    reached = tf.cumsum(tf.exp(values / temperature), axis=1)
    target = uniform(coins)[:, None] * reached[:, -1:]
    return tf.reduce_sum(tf.cast(reached <= target, tf.int32), axis=1)


GRAPH_POLICIES: dict[str, Callable[..., Tensor]] = {
    "epsilon_greedy": epsilon_greedy,
    "boltzmann": boltzmann,
}
"""By `exploration.policy`."""


def host_epsilon_greedy(
    q_values: Callable[[], np.ndarray],
    epsilon: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """As `epsilon_greedy`, int64 [B].

    Args:
      q_values: Gives float32 [B, num_actions], and is not called where nobody acts by them.
      epsilon: The probability.
      rng: Decides.
      shape: Of the Q-values.
    """
    actions = rng.integers(shape[1], size=shape[0])
    explores = rng.random(shape[0]) < epsilon
    if explores.all():
        return actions
    return np.where(explores, actions, q_values().argmax(axis=1))


def host_boltzmann(
    q_values: Callable[[], np.ndarray],
    temperature: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """As `boltzmann`, with the arguments of `host_epsilon_greedy`."""
    values = q_values().astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    reached = np.exp(values / temperature).cumsum(axis=1)
    target = rng.random(shape[0])[:, None] * reached[:, -1:]
    actions: np.ndarray = (reached <= target).sum(axis=1)
    return actions


HOST_POLICIES: dict[str, Callable[..., np.ndarray]] = {
    "epsilon_greedy": host_epsilon_greedy,
    "boltzmann": host_boltzmann,
}
"""By `exploration.policy`."""
