from __future__ import annotations

import numpy as np
import pytest

from dqnkit.statistics import bootstrap_interval, interquartile_mean, summarize


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
def test_interquartile_mean_is_scipys_trimmed_mean_where_both_are_defined(n: int) -> None:
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


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(size=40), resamples=500, seed=trial)
        covered += low <= 0.0 <= high
    # 190 expected; the percentile bootstrap is a little narrow at this size.
    assert 176 <= covered <= 200


def test_the_interval_of_equal_values_is_a_point_and_is_repeatable() -> None:
    assert bootstrap_interval(np.full(10, 500.0)) == (500.0, 500.0)
    values = np.arange(20.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)
