"""One suite for both sum trees, against a cumulative sum."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.replay import graph_sum_tree, host_sum_tree

SIZES = [1, 2, 7, 8, 9, 31, 33, 64, 65, 513, 5_000]


class Tree(Protocol):
    def put(self, leaves: np.ndarray, values: np.ndarray) -> None: ...
    def find(self, shares: np.ndarray) -> np.ndarray: ...
    def leaves(self) -> np.ndarray: ...


class InGraph:
    def __init__(self, size: int) -> None:
        tree = graph_sum_tree.GraphSumTree(size)
        self._size, self._levels = size, tree.initial_state()
        self._put = tf.function(tree.put, jit_compile=True, reduce_retracing=True)
        self._find = tf.function(tree.find, jit_compile=True)

    def put(self, leaves: np.ndarray, values: np.ndarray) -> None:
        arguments = tf.constant(leaves, tf.int32), tf.constant(values, tf.float32)
        self._levels = self._put(self._levels, *arguments)

    def find(self, shares: np.ndarray) -> np.ndarray:
        return np.asarray(self._find(self._levels, tf.constant(shares)))

    def leaves(self) -> np.ndarray:
        assert not np.any(self._levels[0][self._size :])
        return np.asarray(self._levels[0])[: self._size]


class InNumPy:
    def __init__(self, size: int) -> None:
        self._tree = host_sum_tree.HostSumTree(size)
        self.put, self.find = self._tree.put, self._tree.find

    def leaves(self) -> np.ndarray:
        return self._tree.leaves


@pytest.fixture(params=[InGraph, InNumPy])
def kind(request: pytest.FixtureRequest) -> type[Tree]:
    chosen: type[Tree] = request.param
    return chosen


@pytest.mark.parametrize("size", SIZES)
def test_it_finds_what_a_cumulative_sum_finds(kind: type[Tree], size: int) -> None:
    rng = np.random.default_rng(size)
    tree, numbers = kind(size), np.zeros(size)
    for _ in range(6):
        leaves = rng.integers(size, size=16)
        values = rng.integers(0, 9, size=16)[np.searchsorted(np.unique(leaves), leaves)]
        tree.put(leaves, values.astype(np.float64))  # which float32 adds up exactly
        numbers[leaves] = values
    np.testing.assert_array_equal(tree.leaves(), numbers)
    if not numbers.any():
        tree.put(np.array([0]), np.array([1.0]))
        numbers[0] = 1.0
    reached = np.cumsum(numbers)
    units = np.arange(int(reached[-1]))
    shares = (units + 0.5) / reached[-1]
    expected = np.searchsorted(reached, units + 0.5, side="right")
    np.testing.assert_array_equal(tree.find(shares), expected)


@pytest.mark.parametrize("size", [9, 100, 4_000])
def test_rounding_leads_to_no_leaf_without_a_share(kind: type[Tree], size: int) -> None:
    rng = np.random.default_rng(0)
    tree, numbers = kind(size), np.zeros(size)
    used = rng.choice(size, size=size // 3, replace=False)
    numbers[used] = 10.0 ** rng.uniform(-6, 2, size=used.size)
    tree.put(used, numbers[used])
    shares = np.concatenate([rng.random(20_000), [0.0, 1.0 - 2.0**-53, 1.0 - 2.0**-32]])
    assert (numbers[tree.find(shares)] > 0).all()


@pytest.mark.parametrize("size", [5, 70, 1_000])
def test_each_leaf_is_found_as_often_as_its_share(kind: type[Tree], size: int) -> None:
    rng = np.random.default_rng(1)
    tree, numbers = kind(size), rng.random(size) + 0.1
    numbers[:: max(2, size // 3)] = 0.0
    tree.put(np.arange(size), numbers)
    draws = 400 * size
    counts = np.bincount(tree.find(rng.random(draws)), minlength=size)
    expected = draws * numbers / numbers.sum()
    assert not counts[numbers == 0].any()
    used = numbers > 0
    statistic = ((counts[used] - expected[used]) ** 2 / expected[used]).sum()
    # Pearson's chi-squared has n - 1 degrees of freedom: mean n - 1, deviation sqrt(2 (n - 1)).
    freedom = used.sum() - 1
    assert abs(statistic - freedom) < 4.5 * np.sqrt(2 * freedom)


def test_small_leaves_among_many_large_ones_are_found_as_often_as_they_should(
    kind: type[Tree],
) -> None:
    """Of 100,000 leaves half are 1 and half a thousandth, which float32 targets would step over."""
    size = 100_000
    tree, numbers = kind(size), np.where(np.arange(size) % 2, 1.0, 1e-3)
    tree.put(np.arange(size), numbers)
    # The middle of what one small leaf in fifty takes.
    small = np.arange(0, size, 100)
    shares = (np.cumsum(numbers)[small] - 0.5e-3) / numbers.sum()
    found = tree.find(shares)
    assert np.mean(found == small) > 0.99


def test_numbers_that_were_set_from_outside_are_added_up_anew() -> None:
    tree = host_sum_tree.HostSumTree(2_000)
    tree.leaves[:] = np.arange(2_000)
    tree.refresh()
    assert tree.total == 1_999_000
    np.testing.assert_array_equal(tree.find(np.array([0.0, 0.25, 1 - 1e-12])), [1, 1_000, 1_999])
