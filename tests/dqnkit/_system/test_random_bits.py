from __future__ import annotations

import numpy as np
import pytest

from dqnkit._system.random_bits import below, draw, uniform
from dqnkit._system.tensorflow import tf


def _int64(value: int) -> object:
    return tf.constant(value, tf.int64)


def test_bits_depend_on_key_and_counter_only_eagerly_and_under_xla() -> None:
    compiled = tf.function(lambda key, counter: draw(key, counter, 64), jit_compile=True)
    eager = draw(_int64(5), _int64(9), 64).numpy()
    np.testing.assert_array_equal(eager, compiled(_int64(5), _int64(9)).numpy())
    assert not np.array_equal(eager, draw(_int64(5), _int64(10), 64).numpy())
    assert not np.array_equal(eager, draw(_int64(6), _int64(9), 64).numpy())


@pytest.mark.parametrize("bound", [1, 2, 3, 1_000, 2**31 - 1])
def test_below_covers_the_range_and_excludes_the_bound(bound: int) -> None:
    ends = below(tf.constant([0, 2**32 - 1], tf.uint32), tf.constant(bound, tf.int64)).numpy()
    np.testing.assert_array_equal(ends, [0, bound - 1])


def test_uniform_covers_the_unit_interval_and_excludes_1() -> None:
    values = uniform(tf.constant([0, 2**31, 2**32 - 1], tf.uint32)).numpy()
    np.testing.assert_array_equal(values, [0.0, 0.5, 1.0 - 2.0**-32])
