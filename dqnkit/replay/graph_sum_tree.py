"""A sum tree as a pure function of its state, made for a compiled loop."""

from __future__ import annotations

import numpy as np

from dqnkit._system.tensorflow import Tensor, tf

FAN_OUT = 8
"""Children of a node. Fewer make more levels, each of which costs a gather and a scatter; more cost
more additions than they save levels (`benchmarks/kernels.py`)."""

Levels = tuple[Tensor, ...]
"""Sums float32 from the leaves upwards; each level is a multiple of `FAN_OUT` wide, with zeros
behind what is used."""


class GraphSumTree:
    """Numbers that can be changed one by one, and searched by how far their sum reaches.

    Sums are added up anew from their children and never by differences, so that no rounding
    error stays.
    """

    def __init__(self, size: int) -> None:
        """Lays out a tree of so many leaves."""
        self._widths = [_padded(size)]
        while self._widths[-1] > FAN_OUT:
            self._widths.append(_padded(self._widths[-1] // FAN_OUT))
        # Rows that add up the children before and including each; as a product, XLA vectorises it.
        self._up_to = np.triu(np.ones((FAN_OUT, FAN_OUT)))

    def initial_state(self) -> Levels:
        """All zero."""
        return tuple(tf.zeros([width]) for width in self._widths)

    def put(self, levels: Levels, leaves: Tensor, values: Tensor) -> Levels:
        """Sets leaves int32 [B] to values float32 [B]; a leaf that comes twice, to the same one."""
        changed = [tf.tensor_scatter_nd_update(levels[0], leaves[:, None], values)]
        for level in levels[1:]:
            leaves = leaves // FAN_OUT
            sums = tf.reduce_sum(self._children(changed[-1], leaves), axis=1)
            changed.append(tf.tensor_scatter_nd_update(level, leaves[:, None], sums))
        return tuple(changed)

    def find(self, levels: Levels, shares: Tensor) -> Tensor:
        """The leaves int32 [B] up to which the sum reaches a share, float64 [B] in [0, 1), of all.

        Targets are float64: in float32 small leaves among a million would never be met.
        """
        target = shares * tf.reduce_sum(tf.cast(levels[-1], tf.float64))
        node = tf.zeros_like(target, tf.int32)
        for level in reversed(levels):
            children = tf.cast(self._children(level, node), tf.float64)
            reached = tf.matmul(children, self._up_to)
            # Rounding may leave a target at the end or beyond it, where nothing is.
            target = tf.minimum(target, reached[:, -1] * (1.0 - 2.0**-48))
            before = reached <= target[:, None]
            target -= tf.reduce_sum(tf.where(before, children, tf.zeros_like(children)), axis=1)
            node = node * FAN_OUT + tf.reduce_sum(tf.cast(before, tf.int32), axis=1)
        return node

    def _children(self, level: Tensor, nodes: Tensor) -> Tensor:
        """float32 [B, FAN_OUT]."""
        return tf.gather(tf.reshape(level, [-1, FAN_OUT]), nodes)


def _padded(size: int) -> int:
    return -(-size // FAN_OUT) * FAN_OUT
