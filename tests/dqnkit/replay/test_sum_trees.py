"""Both sum trees, checked against a cumulative sum."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.replay import graph_sum_tree, host_sum_tree

SIZES = [1, 2, 7, 8, 9, 31, 33, 64, 65, 513, 5_000]


class Tree(Protocol):
    def set(self, leaves: np.ndarray, values: np.ndarray) -> None: ...
    def query(self, shares: np.ndarray) -> np.ndarray: ...
    def leaves(self) -> np.ndarray: ...


class InGraph:
    def __init__(self, size: int) -> None:
        tree = graph_sum_tree.GraphSumTree(size)
        self._size, self._levels = size, tree.initial_state()
        self._set = tf.function(tree.set, jit_compile=True, reduce_retracing=True)
        self._query = tf.function(tree.query, jit_compile=True)

    def set(self, leaves: np.ndarray, values: np.ndarray) -> None:
        arguments = tf.constant(leaves, tf.int32), tf.constant(values, tf.float32)
        self._levels = self._set(self._levels, *arguments)

    def query(self, shares: np.ndarray) -> np.ndarray:
        return np.asarray(self._query(self._levels, tf.constant(shares)))

    def leaves(self) -> np.ndarray:
        assert not np.any(self._levels[0][self._size :])
        return np.asarray(self._levels[0])[: self._size]


class InNumPy:
    def __init__(self, size: int) -> None:
        self._tree = host_sum_tree.HostSumTree(size)
        self.set, self.query = self._tree.set, self._tree.query

    def leaves(self) -> np.ndarray:
        return self._tree.leaves


@pytest.fixture(params=[InGraph, InNumPy])
def kind(request: pytest.FixtureRequest) -> type[Tree]:
    chosen: type[Tree] = request.param
    return chosen


@pytest.mark.parametrize("size", SIZES)
def test_queries_equal_those_of_a_cumulative_sum(kind: type[Tree], size: int) -> None:
    rng = np.random.default_rng(size)
    tree, numbers = kind(size), np.zeros(size)
    for _ in range(6):
        leaves = rng.integers(size, size=16)
        values = rng.integers(0, 9, size=16)[np.searchsorted(np.unique(leaves), leaves)]
        tree.set(leaves, values.astype(np.float64))  # small integers, whose float32 sums are exact
        numbers[leaves] = values
    np.testing.assert_array_equal(tree.leaves(), numbers)
    if not numbers.any():
        tree.set(np.array([0]), np.array([1.0]))
        numbers[0] = 1.0
    reached = np.cumsum(numbers)
    units = np.arange(int(reached[-1]))
    shares = (units + 0.5) / reached[-1]
    expected = np.searchsorted(reached, units + 0.5, side="right")
    np.testing.assert_array_equal(tree.query(shares), expected)


@pytest.mark.parametrize("size", [9, 100, 4_000])
def test_rounding_never_selects_a_leaf_that_is_zero(kind: type[Tree], size: int) -> None:
    rng = np.random.default_rng(0)
    tree, numbers = kind(size), np.zeros(size)
    used = rng.choice(size, size=size // 3, replace=False)
    numbers[used] = 10.0 ** rng.uniform(-6, 2, size=used.size)
    tree.set(used, numbers[used])
    shares = np.concatenate([rng.random(20_000), [0.0, 1.0 - 2.0**-53, 1.0 - 2.0**-32]])
    assert (numbers[tree.query(shares)] > 0).all()


@pytest.mark.parametrize("size", [5, 70, 1_000])
def test_each_leaf_is_selected_in_proportion_to_its_value(kind: type[Tree], size: int) -> None:
    rng = np.random.default_rng(1)
    tree, numbers = kind(size), rng.random(size) + 0.1
    numbers[:: max(2, size // 3)] = 0.0
    tree.set(np.arange(size), numbers)
    draws = 400 * size
    counts = np.bincount(tree.query(rng.random(draws)), minlength=size)
    expected = draws * numbers / numbers.sum()
    assert not counts[numbers == 0].any()
    used = numbers > 0
    statistic = ((counts[used] - expected[used]) ** 2 / expected[used]).sum()
    # Pearson's chi-squared has n - 1 degrees of freedom: mean n - 1, deviation sqrt(2 (n - 1)).
    freedom = used.sum() - 1
    assert abs(statistic - freedom) < 4.5 * np.sqrt(2 * freedom)


def test_small_leaves_among_many_large_ones_are_found(
    kind: type[Tree],
) -> None:
    """Half of 100,000 leaves are 1 and half are 0.001, which float32 targets would step over."""
    size = 100_000
    tree, numbers = kind(size), np.where(np.arange(size) % 2, 1.0, 1e-3)
    tree.set(np.arange(size), numbers)
    # The middle of the shares of one small leaf in fifty.
    small = np.arange(0, size, 100)
    shares = (np.cumsum(numbers)[small] - 0.5e-3) / numbers.sum()
    found = tree.query(shares)
    assert np.mean(found == small) > 0.99


def test_refresh_recomputes_the_sums_of_leaves_that_were_set_in_place() -> None:
    tree = host_sum_tree.HostSumTree(2_000)
    tree.leaves[:] = np.arange(2_000)
    tree.refresh()
    assert tree.total == 1_999_000
    np.testing.assert_array_equal(tree.query(np.array([0.0, 0.25, 1 - 1e-12])), [1, 1_000, 1_999])
