"""Aggregates of returns. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
"""Of a bootstrap."""
CONFIDENCE = 0.95
"""Of an interval."""
_BLOCK = 2_000_000
"""Numbers that are resampled at once: what bounds the memory of a bootstrap."""


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


class Estimate(NamedTuple):
    """A statistic with its 95 % confidence interval."""

    value: float
    low: float
    high: float


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
    return _middle_half(ordered, np.ones(ordered.shape[-1]))


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
    values: np.ndarray,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """Stratified-bootstrap confidence interval of the interquartile mean, by percentiles.

    Args:
      values: [n] or [n, strata], n at least 1. Each stratum is resampled by itself, and the mean
        is that of all values together, as in rliable (Agarwal et al., 2021).
      resamples: Samples with replacement, each of size n in each stratum.
      confidence: Share of resampled means inside.
      seed: Of the resampling alone.

    Returns:
      Lower and upper end.
    """
    return _percentiles(_resampled_means(values, resamples, seed), confidence)


def estimate(values: np.ndarray) -> Estimate:
    """Interquartile mean of values [n] with its interval; both ends are the value where n is 1."""
    return Estimate(float(interquartile_mean(values)), *bootstrap_interval(values))


def difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """How much the interquartile mean of one sample is above another's.

    Args:
      first: [n].
      second: [m], from other environments or another policy; each is resampled by itself.
      seed: Of the resampling alone.
    """
    value = float(interquartile_mean(first) - interquartile_mean(second))
    resampled = _resampled_means(first, RESAMPLES, seed) - _resampled_means(
        second, RESAMPLES, seed + 1
    )
    return Estimate(value, *_percentiles(resampled, CONFIDENCE))


def probability_of_improvement(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """How probable it is that a draw of one sample is above a draw of another; equals count half.

    Mann and Whitney's U over n * m; the interval as in rliable (Agarwal et al., 2021), each sample
    resampled by itself.

    Args:
      first: [n].
      second: [m].
      seed: Of the resampling alone.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    levels = np.unique(np.concatenate([first, second]))
    places = [np.searchsorted(levels, sample) for sample in (first, second)]
    rng = np.random.default_rng(seed)

    def probability(higher: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Of counts [..., levels] of the samples' values."""
        beaten = np.cumsum(lower, axis=-1) - 0.5 * lower
        share: np.ndarray = (higher * beaten).sum(axis=-1) / (first.size * second.size)
        return share

    def resampled(block: int) -> np.ndarray:
        drawn = [p[rng.integers(0, p.size, (block, p.size))] for p in places]
        return probability(*(_counts(each, levels.size) for each in drawn))

    value = float(probability(*(_counts(p[None], levels.size)[0] for p in places)))
    shares = _in_blocks(resampled, RESAMPLES, first.size + second.size)
    return Estimate(value, *_percentiles(shares, CONFIDENCE))


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Interquartile means [resamples] of samples with replacement.

    A resample is how often it holds each of the sorted values: none has to be sorted.
    """
    values = np.asarray(values, np.float64)
    values = values.reshape(len(values), -1)
    n, strata = values.shape
    order = np.argsort(values, axis=None, kind="stable")
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size)
    ordered = values.ravel()[order]
    rng = np.random.default_rng(seed)

    def means(block: int) -> np.ndarray:
        rows = rng.integers(0, n, (block, n, strata))
        drawn = ranks[rows * strata + np.arange(strata)].reshape(block, -1)
        return _middle_half(ordered, _counts(drawn, values.size))

    return _in_blocks(means, resamples, values.size)


def _middle_half(ordered: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Interquartile mean [...] of sorted values [..., n], each `counts` [..., n] times there."""
    ends = np.cumsum(counts, axis=-1)
    total = ends[..., -1:]
    weights = np.minimum(ends, 0.75 * total) - np.maximum(ends - counts, 0.25 * total)
    weights = np.maximum(weights, 0.0)
    mean: np.ndarray = (ordered * weights).sum(axis=-1) / weights.sum(axis=-1)
    return mean


def _counts(places: np.ndarray, size: int) -> np.ndarray:
    """How often each row of places [rows, n] holds 0 to size - 1: float64 [rows, size]."""
    rows = len(places)
    shifted = places + size * np.arange(rows)[:, None]
    counts = np.bincount(shifted.ravel(), minlength=rows * size)
    return counts.reshape(rows, size).astype(np.float64)


def _in_blocks(resample: Callable[[int], np.ndarray], resamples: int, size: int) -> np.ndarray:
    return np.concatenate([resample(block) for block in _blocks(resamples, size)])


def _blocks(resamples: int, size: int) -> Iterator[int]:
    block = max(1, _BLOCK // size)
    for start in range(0, resamples, block):
        yield min(block, resamples - start)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
