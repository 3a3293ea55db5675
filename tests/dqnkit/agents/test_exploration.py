"""The distributions of actions, for tensors and for arrays."""

from __future__ import annotations

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents.exploration import GRAPH_POLICIES, HOST_POLICIES

Q_VALUES = np.float32([[1.0, 3.0, 3.0, 0.0], [-2.0, -1.0, -5.0, -1.5]])
DRAWS = 40_000


def _probabilities(policy: str, value: float) -> np.ndarray:
    if policy == "boltzmann":
        weights = np.exp(Q_VALUES.astype(np.float64) / value)
        shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
        return shares
    shares = np.full(Q_VALUES.shape, value / 4)
    shares[[0, 1], [1, 1]] += 1 - value  # the first of equal values
    return shares


def _graph(policy: str, value: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (2, 2 * DRAWS), dtype=np.uint32)
    q_values = tf.constant(np.repeat(Q_VALUES, DRAWS, axis=0))
    act = tf.function(GRAPH_POLICIES[policy], jit_compile=True)
    actions = act(q_values, tf.constant(value, tf.float64), *map(tf.constant, bits))
    return np.asarray(actions).reshape(2, DRAWS)


def _host(policy: str, value: float) -> np.ndarray:
    q_values = np.repeat(Q_VALUES, DRAWS, axis=0)
    rng = np.random.default_rng(0)
    actions = HOST_POLICIES[policy](lambda: q_values, value, rng, q_values.shape)
    return np.asarray(actions).reshape(2, DRAWS)


@pytest.mark.parametrize("act", [_graph, _host])
@pytest.mark.parametrize(
    ("policy", "value"),
    [
        ("epsilon_greedy", 0.0),
        ("epsilon_greedy", 0.3),
        ("epsilon_greedy", 1.0),
        ("boltzmann", 0.5),
        ("boltzmann", 2.0),
        ("boltzmann", 1e-6),  # greedy, with equal values sharing the probability
        ("boltzmann", 1e6),  # uniform
    ],
)
def test_actions_are_selected_with_their_probabilities(
    act: object, policy: str, value: float
) -> None:
    assert callable(act)
    actions = act(policy, value)
    if value == 1e-6:
        shares = np.array([[0.0, 0.5, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]])
    else:
        shares = _probabilities(policy, value)
    counts = np.stack([np.bincount(row, minlength=4) for row in actions])
    # 4.5 standard deviations of a binomial count, and none where the probability is 0 or 1.
    deviation = np.sqrt(DRAWS * shares * (1 - shares))
    assert (np.abs(counts - DRAWS * shares) <= 4.5 * deviation + 1e-9).all()


def test_q_values_are_not_computed_if_every_environment_explores() -> None:
    def q_values() -> np.ndarray:
        raise AssertionError("called")

    HOST_POLICIES["epsilon_greedy"](q_values, 1.0, np.random.default_rng(0), (5, 3))
