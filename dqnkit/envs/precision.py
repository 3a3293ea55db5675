"""Detection of observations that float32, in which they are stored, cannot tell apart."""

from __future__ import annotations

import numpy as np

_WATCHED = 1_000
"""Number of observations that are looked at. Later ones cost nothing."""
_FEW_STEPS = 32
"""Number of steps of float32 between two observations below which the range between them is lost.
Ordinary observations have thousands."""
_SMALL = 1e4
"""Magnitude up to which changes that float32 loses are those of a value that hardly moves."""
_NOISE = 1e-12
"""Relative size of changes that are errors of rounding, and not information."""
ADVICE = (
    "subtract an offset, or split them into parts, by a gymnasium.ObservationWrapper of your own "
    "in env.wrappers"
)


class PrecisionWatch:
    """Watches one array of observations until it has found a problem or seen enough."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """Clause on the problem, once one is found; its subject is the array."""
        self._left = _WATCHED
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    @property
    def is_over(self) -> bool:
        """True if nothing more needs to be watched."""
        return self._left <= 0 or self.problem is not None

    def add(self, numbers: np.ndarray, stored: np.ndarray) -> None:
        """Look at some observations.

        Args:
          numbers: Integers or float64 of observations, [N, *shape].
          stored: The same numbers as float32.
        """
        self._left -= 1
        if numbers.dtype.kind in "iu":
            self._compare(numbers, stored.reshape(numbers.shape))
            return
        low, high = numbers.min(axis=0), numbers.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        if self._left == 0:
            self._judge(self._low, self._high)

    def _compare(self, numbers: np.ndarray, stored: np.ndarray) -> None:
        differs = stored.astype(np.float64) != numbers
        if differs.any():
            first = tuple(np.argwhere(differs)[0])
            self.problem = (
                f"{numbers[first]}, which is stored as float32 and becomes {int(stored[first])}"
            )

    def _judge(self, low: np.ndarray, high: np.ndarray) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            size, span = np.maximum(np.abs(low), np.abs(high)), high - low
            step = np.spacing(size.astype(np.float32)).astype(np.float64)
            is_lost = (size > _SMALL) & (span > _NOISE * size) & (span < _FEW_STEPS * step)
        if is_lost.any():
            first = tuple(np.argwhere(is_lost)[0])
            self.problem = (
                f"numbers between {low[first]:.12g} and {high[first]:.12g}, which are stored as "
                f"float32, whose steps are {step[first]:.2g} there"
            )
