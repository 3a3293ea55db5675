"""A sum tree as a pure function of its state, for use in a compiled loop."""

from __future__ import annotations

import numpy as np

from dqnkit._system.tensorflow import Tensor, tf

FAN_OUT = 8
"""Number of children of a node. Fewer children make more levels, each of which costs a gather and
a scatter; more children cost more additions than they save levels (`benchmarks/kernels.py`)."""

Levels = tuple[Tensor, ...]
"""State of a tree: sums, float32, level by level from the leaves upwards. The width of a level is a
multiple of `FAN_OUT`; unused places hold zeros."""


class GraphSumTree:
    """Non-negative numbers that can be set one by one and searched by their cumulative sum.

    Sums are always recomputed from the children and never adjusted by differences, so that
    rounding errors do not accumulate.
    """

    def __init__(self, size: int) -> None:
        """Compute the layout of a tree with `size` leaves."""
        self._widths = [_padded(size)]
        while self._widths[-1] > FAN_OUT:
            self._widths.append(_padded(self._widths[-1] // FAN_OUT))
        # A cumulative sum over the children as a matrix product, which XLA vectorizes.
        self._cumulative = np.triu(np.ones((FAN_OUT, FAN_OUT)))

    def initial_state(self) -> Levels:
        """Return a tree whose leaves are all zero."""
        return tuple(tf.zeros([width]) for width in self._widths)

    def set(self, levels: Levels, leaves: Tensor, values: Tensor) -> Levels:
        """Return the tree with some leaves set.

        Args:
          levels: The tree.
          leaves: Indices of the leaves, int32 [B]. A leaf may occur twice, with the same value.
          values: Values of the leaves, float32 [B].
        """
        changed = [tf.tensor_scatter_nd_update(levels[0], leaves[:, None], values)]
        for level in levels[1:]:
            leaves = leaves // FAN_OUT
            sums = tf.reduce_sum(self._children(changed[-1], leaves), axis=1)
            changed.append(tf.tensor_scatter_nd_update(level, leaves[:, None], sums))
        return tuple(changed)

    def query(self, levels: Levels, shares: Tensor) -> Tensor:
        """Return the leaves at which the cumulative sum first exceeds shares of the total.

        Args:
          levels: The tree.
          shares: Shares of the total in [0, 1), float64 [B].

        Returns:
          Indices of the leaves, int32 [B].
        """
        # Targets are float64: in float32, small leaves among a million would never be found.
        target = shares * tf.reduce_sum(tf.cast(levels[-1], tf.float64))
        node = tf.zeros_like(target, tf.int32)
        for level in reversed(levels):
            children = tf.cast(self._children(level, node), tf.float64)
            reached = tf.matmul(children, self._cumulative)
            # Rounding may move a target to the node's sum or beyond, where there is no leaf.
            target = tf.minimum(target, reached[:, -1] * (1.0 - 2.0**-48))
            before = reached <= target[:, None]
            target -= tf.reduce_sum(tf.where(before, children, tf.zeros_like(children)), axis=1)
            node = node * FAN_OUT + tf.reduce_sum(tf.cast(before, tf.int32), axis=1)
        return node

    def _children(self, level: Tensor, nodes: Tensor) -> Tensor:
        """Return the children of nodes in the level above, float32 [B, FAN_OUT]."""
        return tf.gather(tf.reshape(level, [-1, FAN_OUT]), nodes)


def _padded(size: int) -> int:
    return -(-size // FAN_OUT) * FAN_OUT
