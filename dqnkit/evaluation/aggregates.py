"""Aggregates of returns with bootstrap confidence intervals, in NumPy.

The statistics match those of rliable (Agarwal et al., 2021, "Deep Reinforcement Learning at the
Edge of the Statistical Precipice"): the interquartile mean is its `aggregate_iqm` for sample sizes
that are multiples of four, the intervals are its percentile intervals of a stratified bootstrap,
and `probability_of_improvement` is its metric of that name for a single task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
"""Number of bootstrap resamples."""
CONFIDENCE = 0.95
"""Level of the confidence intervals."""
_BLOCK = 2_000_000
"""Maximum number of values that are resampled at once, which bounds the memory of a bootstrap."""


@dataclass(frozen=True)
class Summary:
    """Statistics of a sample of episode returns."""

    n: int
    """Sample size."""
    mean: float
    std: float
    """Population standard deviation."""
    min: float
    max: float
    median: float
    iqm: float
    """Interquartile mean."""


class Estimate(NamedTuple):
    """A statistic with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the values (Agarwal et al., 2021).

    A value that straddles a quartile has the weight of its share inside, so the sample size need
    not be a multiple of four: the weights always sum to n / 2. If it is one, the result equals
    `scipy.stats.trim_mean(values, 0.25)`, which rliable uses for every n.

    Args:
      values: Array [..., n] with n >= 1.

    Returns:
      Means over the last axis, float64 [...].
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    return _middle_half(ordered, np.ones(ordered.shape[-1]))


def summarize(values: np.ndarray) -> Summary:
    """Return statistics of returns [n], n >= 1."""
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
    """Return the percentile interval of the interquartile mean by a stratified bootstrap.

    Args:
      values: Array [n] or [n, strata], n >= 1. Each stratum is resampled independently, and the
        mean is taken over all values together, as in rliable (Agarwal et al., 2021).
      resamples: Number of samples with replacement, each of size n per stratum.
      confidence: Fraction of the resampled means inside the interval.
      seed: Seed of the resampling.

    Returns:
      Lower and upper end.
    """
    return _percentiles(_resampled_means(values, resamples, seed), confidence)


def estimate(values: np.ndarray) -> Estimate:
    """Return the interquartile mean of values [n] with its interval, which is a point if n is 1."""
    return Estimate(float(interquartile_mean(values)), *bootstrap_interval(values))


def difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """Return the difference between the interquartile means of two independent samples.

    The two samples are resampled independently.

    Args:
      first: Minuend, array [n].
      second: Subtrahend, array [m].
      seed: Seed of the resampling.
    """
    value = float(interquartile_mean(first) - interquartile_mean(second))
    resampled = _resampled_means(first, RESAMPLES, seed) - _resampled_means(
        second, RESAMPLES, seed + 1
    )
    return Estimate(value, *_percentiles(resampled, CONFIDENCE))


def probability_of_improvement(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """Return the probability that a value of one sample is above a value of another.

    The probability is the Mann-Whitney U statistic divided by n * m, so ties count one half. As in
    rliable (Agarwal et al., 2021), the two samples are resampled independently.

    Args:
      first: Array [n].
      second: Array [m].
      seed: Seed of the resampling.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    levels = np.unique(np.concatenate([first, second]))
    ranks = [np.searchsorted(levels, sample) for sample in (first, second)]
    rng = np.random.default_rng(seed)

    def probability(higher: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Return the probability from each sample's counts [..., levels] of the values."""
        beaten = np.cumsum(lower, axis=-1) - 0.5 * lower
        wins: np.ndarray = (higher * beaten).sum(axis=-1)
        return wins / (first.size * second.size)

    def resample(block: int) -> np.ndarray:
        drawn = [r[rng.integers(0, r.size, (block, r.size))] for r in ranks]
        return probability(*(_counts(each, levels.size) for each in drawn))

    value = float(probability(*(_counts(r[None], levels.size)[0] for r in ranks)))
    resampled = _in_blocks(resample, RESAMPLES, first.size + second.size)
    return Estimate(value, *_percentiles(resampled, CONFIDENCE))


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the interquartile means of samples with replacement, float64 [resamples].

    A resample is represented by its counts of the sorted values, so it need not be sorted.
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
    """Return the interquartile mean [...] of sorted values [..., n] with counts [..., n]."""
    ends = np.cumsum(counts, axis=-1)
    total = ends[..., -1:]
    weights = np.minimum(ends, 0.75 * total) - np.maximum(ends - counts, 0.25 * total)
    weights = np.maximum(weights, 0.0)
    mean: np.ndarray = (ordered * weights).sum(axis=-1) / weights.sum(axis=-1)
    return mean


def _counts(ranks: np.ndarray, size: int) -> np.ndarray:
    """Return counts of 0 to size - 1 in each row of ranks [rows, n], float64 [rows, size]."""
    rows = len(ranks)
    shifted = ranks + size * np.arange(rows)[:, None]
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
