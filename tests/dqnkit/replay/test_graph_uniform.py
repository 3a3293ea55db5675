from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.envs.transitions import Transitions
from dqnkit.replay.graph_uniform import GraphUniformReplay, ReplayState

BETA = tf.constant(0.0, tf.float64)


def _transitions(first: int, count: int) -> Transitions:
    """Return transitions whose fields are functions of their numbers."""
    numbers = np.arange(first, first + count)
    observation = np.stack([numbers, numbers + 0.5], axis=1)
    return Transitions(
        observation=tf.constant(observation, tf.float32),
        action=tf.constant(numbers % 3, tf.int32),
        reward=tf.constant(-numbers, tf.float32),
        discount=tf.constant(numbers % 2, tf.float32),
        next_observation=tf.constant(observation + 1.0, tf.float32),
    )


def _bits_of_rows(rows: np.ndarray, size: int) -> object:
    """Return random bits that select given rows: the middle of each row's share of 2**32."""
    return tf.constant(((rows + 0.5) / size * 2**32).astype(np.uint64).astype(np.uint32))


def _contents(replay: GraphUniformReplay, state: ReplayState) -> Transitions:
    size = min(int(state.added), replay.capacity)
    return replay.sample(state, _bits_of_rows(np.arange(size), size), BETA).transitions


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("max_length", "num_envs"), [(5, 1), (12, 4), (13, 4), (4, 4)])
def test_the_newest_transitions_are_kept_as_in_a_deque(
    max_length: int, num_envs: int, jit_compile: bool
) -> None:
    replay = GraphUniformReplay(max_length, num_envs, observation_size=2)
    assert replay.capacity == max_length // num_envs * num_envs
    add = tf.function(replay.add, jit_compile=jit_compile)
    state, oracle = replay.initial_state(), deque[int](maxlen=replay.capacity)
    for first in range(0, 9 * num_envs, num_envs):
        state = add(state, _transitions(first, num_envs), tf.zeros([num_envs], tf.bool))
        oracle.extend(range(first, first + num_envs))
        kept = _contents(replay, state)
        expected = [_transitions(number, 1) for number in oracle]
        order = np.argsort(kept.observation.numpy()[:, 0])
        for name, values in kept._asdict().items():
            wanted = np.concatenate([getattr(t, name).numpy() for t in expected])
            np.testing.assert_array_equal(values.numpy()[order], wanted)


@pytest.mark.parametrize("filled", [3, 10])
def test_all_transitions_are_sampled_equally_often_and_no_empty_row(filled: int) -> None:
    replay = GraphUniformReplay(10, 1, observation_size=2)
    state = replay.initial_state()
    for number in range(1, filled + 1):
        state = replay.add(state, _transitions(number, 1), tf.zeros([1], tf.bool))
    bits = np.random.default_rng(0).integers(0, 2**32, 50_000, dtype=np.uint32)
    batch = replay.sample(state, tf.constant(bits), BETA)
    assert batch.importance_weights is None
    sampled = batch.transitions.observation.numpy()[:, 0]
    numbers, counts = np.unique(sampled, return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(1, filled + 1))
    # Pearson's chi-squared; 33.7 is the 0.01 % critical value at 9 degrees of freedom.
    expected = 50_000 / filled
    assert ((counts - expected) ** 2 / expected).sum() < 33.7
