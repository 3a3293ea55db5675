"""Priorities and importance weights of prioritized replay (Schaul et al., 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np

LEAST_ERROR = 1e-6
"""Constant added to each TD error, so that a transition without error can be drawn again."""


def priorities_from_td_errors(td_errors: Any, alpha: float) -> Any:
    """Return (|td_error| + 1e-6) ** alpha for an array or a tensor of TD errors."""
    return (abs(td_errors) + LEAST_ERROR) ** alpha


def importance_weights(priorities: np.ndarray, beta: float) -> np.ndarray:
    """Return P ** -beta divided by its maximum over the batch.

    The sampling probabilities P are proportional to the priorities; the common factor cancels in
    the division.

    Args:
      priorities: Priorities of one or more batches, [..., B].
      beta: Exponent: 0 for no correction, 1 for a full one.

    Returns:
      Weights in (0, 1], float32 [..., B].
    """
    relative = priorities / priorities.min(axis=-1, keepdims=True)
    weights: np.ndarray = (relative**-beta).astype(np.float32)
    return weights
