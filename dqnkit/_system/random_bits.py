"""Random numbers for compiled loops: counters in, bits out, no state to keep."""

from __future__ import annotations

from dqnkit._system.tensorflow import Tensor, tf


def draw(key: Tensor, counter: Tensor, count: int) -> Tensor:
    """`count` random uint32 for a (key, counter) pair, both int64 scalars.

    Philox (Salmon et al., 2011). One draw of many is far cheaper under XLA than many of few.
    """
    return tf.random.stateless_uniform(
        [count], tf.stack([key, counter]), minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def uniform(bits: Tensor) -> Tensor:
    """float64 in [0, 1) with 32 random bits each, of the shape of `bits`."""
    return tf.cast(bits, tf.float64) * 2.0**-32


def below(bits: Tensor, bound: Tensor | int) -> Tensor:
    """int32 in [0, bound), of the shape of `bits`.

    Multiply and shift (Lemire, 2019), without its rejection: the bias is below bound / 2**32.
    """
    product = tf.cast(bits, tf.uint64) * tf.cast(bound, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int32)
