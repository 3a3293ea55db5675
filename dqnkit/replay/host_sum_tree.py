"""A sum tree in NumPy."""

from __future__ import annotations

import numpy as np

_FAN_OUT = 32
"""Children of a node: NumPy pays for calls, of which a level takes several, not for numbers."""


class HostSumTree:
    """Numbers that can be changed one by one, and searched by how far their sum reaches.

    Sums are added up anew from their children and never by differences, so that no rounding
    error stays.
    """

    def __init__(self, size: int) -> None:
        """All of so many numbers are zero."""
        widths = [_padded(size)]
        while widths[-1] > _FAN_OUT:
            widths.append(_padded(widths[-1] // _FAN_OUT))
        self._levels = [np.zeros(width) for width in widths]
        self.leaves = self._levels[0][:size]
        """float64 [size], not copied; who changes them here calls `refresh`."""

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self._levels[-1].sum())

    def put(self, leaves: np.ndarray, values: np.ndarray | float) -> None:
        """Sets leaves int [B] to values float [B]; of those that come twice, to the last."""
        self._levels[0][leaves] = values
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            leaves = leaves // _FAN_OUT
            level[leaves] = below.reshape(-1, _FAN_OUT)[leaves].sum(axis=1)

    def refresh(self) -> None:
        """Adds all up anew."""
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            sums = below.reshape(-1, _FAN_OUT).sum(axis=1)
            level[: len(sums)] = sums

    def find(self, shares: np.ndarray) -> np.ndarray:
        """The leaves int [B] up to which the sum reaches a share, float [B] in [0, 1), of all."""
        target = shares * self.total
        node = np.zeros(len(target), np.int64)
        for level in reversed(self._levels):
            reached = level.reshape(-1, _FAN_OUT)[node].cumsum(axis=1)
            # Rounding may leave a target at the end or beyond it, where nothing is.
            target = np.minimum(target, reached[:, -1] * (1.0 - 2.0**-48))
            child = (reached <= target[:, None]).sum(axis=1)
            before = np.take_along_axis(reached, np.maximum(child - 1, 0)[:, None], axis=1)[:, 0]
            target = target - np.where(child > 0, before, 0.0)
            node = node * _FAN_OUT + child
        return node


def _padded(size: int) -> int:
    return -(-size // _FAN_OUT) * _FAN_OUT
