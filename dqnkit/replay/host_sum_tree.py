"""A sum tree in NumPy."""

from __future__ import annotations

import numpy as np

_FAN_OUT = 32
"""Number of children of a node. Each level takes several NumPy calls, whose overhead outweighs the
arithmetic on a node's children, so few levels of wide nodes are fastest."""


class HostSumTree:
    """Non-negative numbers that can be set one by one and searched by their cumulative sum.

    Sums are always recomputed from the children and never adjusted by differences, so that
    rounding errors do not accumulate.
    """

    def __init__(self, size: int) -> None:
        """Allocate a tree with `size` leaves, all zero."""
        widths = [_padded(size)]
        while widths[-1] > _FAN_OUT:
            widths.append(_padded(widths[-1] // _FAN_OUT))
        self._levels = [np.zeros(width) for width in widths]
        self.leaves = self._levels[0][:size]
        """The leaves, float64 [size], not copied. Call `refresh` after changing them in place."""

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._levels[-1].sum())

    def set(self, leaves: np.ndarray, values: np.ndarray | float) -> None:
        """Set some leaves.

        Args:
          leaves: Indices of the leaves, int [B]. For a leaf that occurs twice, the last value
            counts.
          values: Values of the leaves, float [B], or one value for all.
        """
        self._levels[0][leaves] = values
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            leaves = leaves // _FAN_OUT
            level[leaves] = below.reshape(-1, _FAN_OUT)[leaves].sum(axis=1)

    def refresh(self) -> None:
        """Recompute all sums from the leaves."""
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            sums = below.reshape(-1, _FAN_OUT).sum(axis=1)
            level[: len(sums)] = sums

    def query(self, shares: np.ndarray) -> np.ndarray:
        """Return the leaves at which the cumulative sum first exceeds shares of the total.

        Args:
          shares: Shares of the total in [0, 1), float [B].

        Returns:
          Indices of the leaves, int [B].
        """
        target = shares * self.total
        node = np.zeros(len(target), np.int64)
        for level in reversed(self._levels):
            reached = level.reshape(-1, _FAN_OUT)[node].cumsum(axis=1)
            # Rounding may move a target to the node's sum or beyond, where there is no leaf.
            target = np.minimum(target, reached[:, -1] * (1.0 - 2.0**-48))
            child = (reached <= target[:, None]).sum(axis=1)
            before = np.take_along_axis(reached, np.maximum(child - 1, 0)[:, None], axis=1)[:, 0]
            target = target - np.where(child > 0, before, 0.0)
            node = node * _FAN_OUT + child
        return node


def _padded(size: int) -> int:
    return -(-size // _FAN_OUT) * _FAN_OUT
