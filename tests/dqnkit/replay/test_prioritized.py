"""Every prioritized replay, checked against a dictionary of priorities."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.config.sections import ReplayConfig
from dqnkit.envs.specs import EnvSpec, ObservationKind
from dqnkit.envs.transitions import Transitions
from dqnkit.replay.graph_prioritized import GraphPrioritizedReplay
from dqnkit.replay.host_prioritized import HostPrioritizedReplay
from dqnkit.replay.priorities import importance_weights
from tests.dqnkit.replay.host_replays import held, makers, needs_reverb
from tests.specs import observation_spec

SPEC = EnvSpec("", observation_spec(ObservationKind.VECTOR, (1,), "float32"), 2)


def _config(max_length: int, alpha: float) -> ReplayConfig:
    return ReplayConfig(kind="prioritized", replay_buffer_max_length=max_length, alpha=alpha)


class Replay(Protocol):
    """Transitions of `num_envs` environments; the observation of each is its number."""

    def add(self, numbers: np.ndarray) -> None: ...
    def sample(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, numbers and importance weights with beta 0.5."""
        ...

    def update(self, rows: np.ndarray, td_errors: np.ndarray) -> None: ...
    def priorities(self) -> dict[int, float]:
        """Return the priorities of all transitions by number."""
        ...


class InGraph:
    def __init__(self, max_length: int, num_envs: int, alpha: float) -> None:
        self._replay = GraphPrioritizedReplay(_config(max_length, alpha), num_envs, 1)
        self._state = self._replay.initial_state()
        self._rng = np.random.default_rng(0)
        self._add = tf.function(self._replay.add, jit_compile=True)
        self._sample = tf.function(self._replay.sample, jit_compile=True)
        self._update = tf.function(self._replay.update_priorities, jit_compile=True)

    def add(self, numbers: np.ndarray) -> None:
        observation = tf.constant(numbers[:, None], tf.float32)
        zeros = tf.zeros(len(numbers))
        action = tf.zeros(len(numbers), tf.int32)
        transitions = Transitions(observation, action, zeros, zeros, observation)
        self._state = self._add(self._state, transitions, tf.fill([len(numbers)], True))

    def sample(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bits = tf.constant(self._rng.integers(0, 2**32, size, dtype=np.uint32))
        batch = self._sample(self._state, bits, tf.constant(0.5, tf.float64))
        numbers = batch.transitions.observation.numpy()[:, 0].astype(int)
        return batch.rows.numpy(), numbers, batch.importance_weights.numpy()

    def update(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        self._state = self._update(
            self._state, tf.constant(rows), tf.constant(td_errors, tf.float32)
        )

    def priorities(self) -> dict[int, float]:
        rows = tf.range(min(int(self._state.added), self._replay.capacity))
        numbers = self._replay._transitions(self._state, rows).observation.numpy()[:, 0]
        leaves = self._state.priorities.levels[0].numpy()
        assert not leaves[len(numbers) :].any()
        return dict(zip(numbers.astype(int), leaves, strict=False))


class InNumPy:
    def __init__(self, max_length: int, num_envs: int, alpha: float) -> None:
        self._replay = HostPrioritizedReplay(_config(max_length, alpha), num_envs, SPEC)
        self._envs = np.arange(num_envs)
        self._rng = np.random.default_rng(0)
        self._begun = False

    def add(self, numbers: np.ndarray) -> None:
        if not self._begun:
            self._replay.begin(self._envs, numbers[:, None].astype(np.float32))
            self._begun = True
        rewards = np.zeros(len(self._envs), np.float32)
        terminated = np.zeros(len(self._envs), np.bool_)
        # A step leads to the observation of the next one.
        following = numbers[:, None].astype(np.float32) + len(self._envs)
        self._replay.add(self._envs, self._envs * 0, rewards, terminated, following)

    def sample(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sample = self._replay.sample(self._rng, size)
        assert sample.priorities is not None
        weights = importance_weights(sample.priorities, 0.5)
        return sample.rows, sample.frames[:, 0, 0].astype(int), weights

    def update(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        self._replay.update_priorities(rows, td_errors)

    def priorities(self) -> dict[int, float]:
        sample = self._replay.transitions()
        numbers = sample.frames[:, 0, 0].astype(int)
        leaves = self._replay._tree.leaves
        assert np.count_nonzero(leaves) == len(numbers)
        return dict(zip(numbers, leaves[sample.rows], strict=True))


class InReverb(InNumPy):
    def __init__(self, max_length: int, num_envs: int, alpha: float) -> None:
        super().__init__(max_length, num_envs, alpha)
        self._open = makers("reverb_prioritized", f"replay.alpha={alpha}")
        self._replay: Any = self._open.__enter__()(max_length, num_envs, SPEC)

    def __del__(self) -> None:
        self._open.__exit__(None, None, None)

    def sample(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._replay._flush()
        self._replay._streams.clear()  # samples that were drawn ahead
        return super().sample(size)

    def priorities(self) -> dict[int, float]:
        sample = held(self._replay)
        assert sample.priorities is not None
        numbers = sample.frames[:, 0, 0].astype(int)
        return dict(zip(numbers, sample.priorities, strict=True))


Backend = type[InGraph] | type[InNumPy] | type[InReverb]


@pytest.fixture(params=[InGraph, InNumPy, pytest.param(InReverb, marks=needs_reverb)])
def kind(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_priorities_equal_those_of_a_dictionary(kind: Backend, num_envs: int, alpha: float) -> None:
    replay, oracle, highest = kind(30, num_envs, alpha), dict[int, float](), 1.0
    rng = np.random.default_rng(3)
    for first in range(0, 40 * num_envs, num_envs):  # more than the capacity
        numbers = np.arange(first, first + num_envs)
        replay.add(numbers)
        oracle |= dict.fromkeys(numbers, highest)
        rows, sampled, _ = replay.sample(4)
        # One error for each transition, even if it occurs twice in a batch.
        errors = np.float32(rng.normal(size=1_000) * 3)[sampled]
        replay.update(rows, errors)
        new = (np.abs(errors.astype(np.float64)) + 1e-6) ** alpha
        oracle |= dict(zip(sampled, new, strict=True))
        highest = max(highest, new.max())
        held = replay.priorities()
        newest = sorted(oracle)[-len(held) :]
        assert sorted(held) == newest
        np.testing.assert_allclose([held[n] for n in newest], [oracle[n] for n in newest], 1e-5)
    assert len(held) == 30  # a ring of NumPy has one more row, for the newest frame


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_transitions_are_sampled_in_proportion_to_their_priorities(
    kind: Backend, alpha: float
) -> None:
    replay = kind(40, 1, alpha)
    for number in range(40):
        replay.add(np.array([number]))
    errors = np.linspace(0.1, 4.0, 40)
    seen: dict[int, int] = {}
    while len(seen) < 40:  # until the row of every number is known
        rows, numbers, _ = replay.sample(200)
        seen |= dict(zip(numbers, rows, strict=True))
        replay.update(rows, errors[numbers])
    draws = 40_000
    _, numbers, _ = replay.sample(draws)
    counts = np.bincount(numbers, minlength=40)
    shares = (errors + 1e-6) ** alpha / ((errors + 1e-6) ** alpha).sum()
    statistic = ((counts - draws * shares) ** 2 / (draws * shares)).sum()
    # Pearson's chi-squared; 80.1 is the 0.01 % critical value at 39 degrees of freedom.
    assert statistic < 80.1


def test_importance_weights_by_hand(kind: Backend) -> None:
    replay = kind(3, 1, 1.0)
    for number in range(3):
        replay.add(np.array([number]))
    for _ in range(50):
        rows, numbers, _ = replay.sample(8)
        replay.update(rows, np.array([1.0, 4.0, 16.0])[numbers] - 1e-6)
    _, numbers, weights = replay.sample(400)
    assert set(numbers) == {0, 1, 2}
    # P = 1/21, 4/21, 16/21 and beta = 1/2: the weights P ** -1/2 are as 4 : 2 : 1.
    np.testing.assert_allclose(weights, np.array([1.0, 0.5, 0.25])[numbers], rtol=1e-5)
