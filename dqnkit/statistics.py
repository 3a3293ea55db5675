"""Aggregates of returns. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Statistics of one sample of episode returns."""

    n: int
    mean: float
    std: float
    """Population standard deviation."""
    min: float
    max: float
    median: float
    iqm: float


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half (Agarwal et al., 2021).

    The values that straddle a quartile count by the share of them that lies inside, so that the
    sample size needs not be a multiple of four: the weights always sum to n / 2.

    Args:
      values: [..., n], n at least 1.

    Returns:
      float64 [...].
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    n = ordered.shape[-1]
    edges = np.arange(n + 1, dtype=np.float64)
    weights = np.clip(np.minimum(edges[1:], 0.75 * n) - np.maximum(edges[:-1], 0.25 * n), 0.0, 1.0)
    mean: np.ndarray = ordered @ (weights / weights.sum())
    return mean


def summarize(values: np.ndarray) -> Summary:
    """Statistics of returns [n], n at least 1."""
    values = np.asarray(values, np.float64)
    return Summary(
        n=int(values.size),
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        max=float(values.max()),
        median=float(np.median(values)),
        iqm=float(interquartile_mean(values)),
    )


def bootstrap_interval(
    values: np.ndarray, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile-bootstrap confidence interval of the interquartile mean.

    Args:
      values: [n], n at least 1.
      resamples: Samples with replacement, each of size n.
      confidence: Share of resampled means inside.
      seed: Of the resampling alone.

    Returns:
      Lower and upper end.
    """
    values = np.asarray(values, np.float64)
    indices = np.random.default_rng(seed).integers(0, values.size, (resamples, values.size))
    means = interquartile_mean(values[indices])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
