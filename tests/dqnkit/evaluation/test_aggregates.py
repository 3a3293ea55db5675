from __future__ import annotations

import numpy as np
import pytest

from dqnkit.evaluation.aggregates import (
    bootstrap_interval,
    difference,
    interquartile_mean,
    probability_of_improvement,
    summarize,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 1.0, 2.0, 100.0], 1.5),
        # n = 5: the middle 2.5 values are 3/4 of the second, the third, 3/4 of the fourth.
        ([0.0, 10.0, 20.0, 40.0, 1000.0], (0.75 * 10 + 20 + 0.75 * 40) / 2.5),
        # n = 6: half of the second, the third, the fourth, half of the fifth.
        ([6.0, 5.0, 4.0, 3.0, 2.0, 0.0], (0.5 * 2 + 3 + 4 + 0.5 * 5) / 3),
    ],
)
def test_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize("n", [4, 8, 100])
def test_interquartile_mean_equals_scipys_trimmed_mean_for_multiples_of_four(n: int) -> None:
    from scipy.stats import trim_mean

    values = np.random.default_rng(n).normal(size=n)
    assert interquartile_mean(values) == pytest.approx(trim_mean(values, 0.25))


def test_interquartile_mean_works_along_the_last_axis() -> None:
    values = np.random.default_rng(0).normal(size=(3, 5, 7))
    expected = [[interquartile_mean(row) for row in block] for block in values]
    np.testing.assert_allclose(interquartile_mean(values), expected)


def test_a_summary_by_hand() -> None:
    summary = summarize(np.array([1.0, 2.0, 3.0, 10.0]))
    assert (summary.n, summary.mean, summary.min, summary.max) == (4, 4.0, 1.0, 10.0)
    assert (summary.median, summary.iqm) == (2.5, 2.5)
    assert summary.std == pytest.approx(np.sqrt((9 + 4 + 1 + 36) / 4))


def test_coverage_of_the_interval_is_close_to_its_level() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(size=40), resamples=500, seed=trial)
        covered += low <= 0.0 <= high
    # 190 are expected; at this size, percentile intervals are slightly too narrow.
    assert 176 <= covered <= 200


def test_interval_of_equal_values_is_a_point_and_is_repeatable() -> None:
    assert bootstrap_interval(np.full(10, 500.0)) == (500.0, 500.0)
    values = np.arange(20.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def _resampled_one_by_one(values: np.ndarray, seed: int) -> np.ndarray:
    """Interquartile means of resamples that are drawn and sorted one by one."""
    indices = np.random.default_rng(seed).integers(0, values.size, (2_000, values.size))
    return interquartile_mean(values[indices])


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_interval_equals_that_of_resamples_drawn_one_by_one(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 9, n).astype(float)
    expected = np.quantile(_resampled_one_by_one(values, 3), [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(values, resamples=2_000, seed=3), expected)


def test_interval_agrees_with_scipys_bootstrap() -> None:
    from scipy.stats import bootstrap, trim_mean

    values = np.random.default_rng(0).gamma(2.0, 50.0, 100)  # a multiple of four, as above
    expected = bootstrap(
        (values,),
        lambda x, axis: trim_mean(x, 0.25, axis=axis),
        n_resamples=10_000,
        method="percentile",
        rng=1,
    ).confidence_interval
    # Each side has its own 10,000 resamples.
    np.testing.assert_allclose(bootstrap_interval(values), expected, rtol=0.02)


def test_interval_does_not_depend_on_the_size_of_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=(30, 2))
    whole = bootstrap_interval(values, resamples=500)
    monkeypatch.setattr("dqnkit.evaluation.aggregates._BLOCK", 700)
    np.testing.assert_allclose(bootstrap_interval(values, resamples=500), whole)


def test_strata_are_resampled_independently() -> None:
    # All values of a stratum are equal, so every stratified resample equals the sample.
    strata = np.tile([0.0, 10.0, 20.0, 90.0], (8, 1))
    assert bootstrap_interval(strata) == (15.0, 15.0)
    low, high = bootstrap_interval(strata.ravel())
    assert low < 15.0 < high


def test_a_difference_by_hand_and_its_interval() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 10.0]), np.array([0.0, 0.0, 1.0, 1.0])
    estimate = difference(first, second)
    assert estimate.value == pytest.approx(2.5 - 0.5)
    assert estimate.low < 2.0 < estimate.high
    assert difference(np.full(5, 7.0), np.full(9, 3.0)) == (4.0, 4.0, 4.0)
    rng = np.random.default_rng(1)
    apart = difference(rng.normal(3.0, size=60), rng.normal(0.0, size=60))
    assert 2.3 < apart.low < apart.value < apart.high < 3.7


def test_the_two_samples_of_a_difference_are_resampled_independently() -> None:
    values = np.random.default_rng(0).normal(size=40)
    same = difference(values, values)
    assert same.value == 0.0
    low, high = bootstrap_interval(values)
    # The variances of independent resamples add up.
    assert same.high - same.low == pytest.approx(np.sqrt(2) * (high - low), rel=0.1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([2.0], [1.0], 1.0),
        ([1.0], [1.0], 0.5),
        ([0.0, 2.0], [1.0], 0.5),
        # Of six pairs, three are wins and one is a tie.
        ([1.0, 2.0, 3.0], [1.0, 2.5], 0.5 * 1 / 6 + 3 / 6),
    ],
)
def test_probability_of_improvement_by_hand(
    first: list[float], second: list[float], expected: float
) -> None:
    value, low, high = probability_of_improvement(np.array(first), np.array(second))
    assert value == pytest.approx(expected)
    assert low <= value <= high


def test_probability_of_improvement_is_the_mann_whitney_statistic() -> None:
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, 23), rng.integers(1, 7, 31)  # many ties
    expected = mannwhitneyu(first, second).statistic / (23 * 31)
    assert probability_of_improvement(first, second).value == pytest.approx(expected)


def test_interval_of_the_probability_equals_that_of_resamples_drawn_one_by_one() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 4, 12).astype(float), rng.integers(0, 5, 9).astype(float)
    draws = np.random.default_rng(9)
    shares = []
    for _ in range(4_000):
        x = first[draws.integers(0, 12, 12)][:, None]
        y = second[draws.integers(0, 9, 9)][None]
        shares.append(np.mean((x > y) + 0.5 * (x == y)))
    expected = np.quantile(shares, [0.025, 0.975])
    np.testing.assert_allclose(probability_of_improvement(first, second)[1:], expected, atol=0.02)
