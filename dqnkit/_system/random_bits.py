"""Stateless random numbers for compiled loops: functions of a key and a counter."""

from __future__ import annotations

from dqnkit._system.tensorflow import Tensor, tf


def draw(key: Tensor, counter: Tensor, count: int) -> Tensor:
    """Return random bits, uint32 [count], that depend on a key and a counter alone.

    The generator is Philox (Salmon et al., 2011). Under XLA, one large draw is far cheaper than
    many small ones.

    Args:
      key: Key of the stream, an int64 scalar.
      counter: Position in the stream, an int64 scalar.
      count: Number of values.
    """
    return tf.random.stateless_uniform(
        [count], tf.stack([key, counter]), minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def uniform(bits: Tensor) -> Tensor:
    """Convert uint32 bits to uniform float64 in [0, 1), of the same shape."""
    return tf.cast(bits, tf.float64) * 2.0**-32


def below(bits: Tensor, bound: Tensor | int) -> Tensor:
    """Convert uint32 bits to uniform int32 in [0, bound), of the same shape.

    The method is multiply-and-shift (Lemire, 2019) without the rejection step: the bias is below
    bound / 2**32.
    """
    product = tf.cast(bits, tf.uint64) * tf.cast(bound, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int32)
