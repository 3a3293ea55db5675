from __future__ import annotations

import pytest

from dqnkit.errors import StudyError
from dqnkit.tuning.failure_streak import FailureStreak


@pytest.mark.parametrize(("is_external", "limit"), [(True, 5), (False, 20)])
def test_failures_in_a_row_make_a_search_hopeless(is_external: bool, limit: int) -> None:
    streak = FailureStreak()
    for number in range(limit):
        assert not streak.has_reached_limit
        streak.add(number, "it broke", is_external=is_external)
    assert streak.has_reached_limit
    message = f"{limit} trials in a row failed, the last of them trial {limit - 1}: it broke"
    assert str(streak.make_error()) == message
    assert isinstance(streak.make_error(), StudyError)


def test_a_trial_that_counts_resets_the_streak() -> None:
    streak = FailureStreak()
    for number in range(8):
        streak.add(number, "it broke", is_external=True)
        streak.reset()
    assert not streak.has_reached_limit


def test_failures_of_both_kinds_add_up() -> None:
    streak = FailureStreak()
    for number in range(20):
        assert not streak.has_reached_limit
        streak.add(number, "it broke", is_external=number % 5 == 0)
    assert streak.has_reached_limit
