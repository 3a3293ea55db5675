from __future__ import annotations

import numpy as np
import pytest

from dqnkit._system.random_bits import below, draw, uniform
from dqnkit._system.tensorflow import tf
from dqnkit.config.seeds import Stream, stream_key


def _int64(value: int) -> object:
    return tf.constant(value, tf.int64)


def test_the_same_key_and_counter_give_the_same_bits_eagerly_and_under_xla() -> None:
    compiled = tf.function(lambda key, counter: draw(key, counter, 64), jit_compile=True)
    eager = draw(_int64(5), _int64(9), 64).numpy()
    np.testing.assert_array_equal(eager, compiled(_int64(5), _int64(9)).numpy())
    assert not np.array_equal(eager, draw(_int64(5), _int64(10), 64).numpy())
    assert not np.array_equal(eager, draw(_int64(6), _int64(9), 64).numpy())


@pytest.mark.parametrize("bound", [1, 2, 3, 1_000, 2**31 - 1])
def test_below_stays_below_and_reaches_both_ends(bound: int) -> None:
    ends = below(tf.constant([0, 2**32 - 1], tf.uint32), tf.constant(bound, tf.int64)).numpy()
    np.testing.assert_array_equal(ends, [0, bound - 1])


def test_uniform_covers_the_unit_interval_without_one() -> None:
    values = uniform(tf.constant([0, 2**31, 2**32 - 1], tf.uint32)).numpy()
    np.testing.assert_array_equal(values, [0.0, 0.5, 1.0 - 2.0**-32])


def test_streams_of_a_run_and_runs_of_different_seeds_have_different_keys() -> None:
    keys = {stream_key(seed, stream) for seed in range(200) for stream in Stream}
    assert len(keys) == 200 * len(Stream)
    assert all(0 <= key < 2**63 for key in keys)
