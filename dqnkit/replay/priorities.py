"""What both prioritized replays have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

LEAST_ERROR = 1e-6
"""Added to each TD error, so that a transition without one is drawn again (Schaul et al., 2016)."""


def priorities_from_td_errors(td_errors: Any, alpha: float) -> Any:
    """(|td_error| + 1e-6) ** alpha, of an array or a tensor."""
    return (abs(td_errors) + LEAST_ERROR) ** alpha


def importance_weights(priorities: np.ndarray, beta: float) -> np.ndarray:
    """P ** -beta over the greatest of the batch, float32 [..., B], of priorities [..., B].

    P is in proportion to the priority, and all else is the same in a batch.
    """
    relative = priorities / priorities.min(axis=-1, keepdims=True)
    weights: np.ndarray = (relative**-beta).astype(np.float32)
    return weights
