from __future__ import annotations

import pytest

from dqnkit.tracking.editor import RegisteredPolicy
from dqnkit.tuning.promotion import Candidate

CANDIDATE = Candidate("CartPole-v1", 350.0, 300.0, 400.0)


def _champion(value: float = 300.0, env: str = "CartPole-v1") -> RegisteredPolicy:
    tags = Candidate(env, value, value - 10, value + 10).tags
    return RegisteredPolicy("3", env, tags)


@pytest.mark.parametrize(
    ("champion", "replaces"),
    [
        (_champion(349.0), True),
        (_champion(350.0), False),
        (_champion(500.0), False),
        (_champion(1.0, "Acrobot-v1"), False),  # not comparable
        (RegisteredPolicy("3", "CartPole-v1", {}), True),  # registered by hand, without a score
        (RegisteredPolicy("3", "", {}), False),
    ],
)
def test_only_a_better_winner_of_the_same_environment_is_promoted(
    champion: RegisteredPolicy, replaces: bool
) -> None:
    assert CANDIDATE.may_replace(champion, promote=None) is replaces
    assert CANDIDATE.may_replace(champion, promote=True)
    assert not CANDIDATE.may_replace(champion, promote=False)


@pytest.mark.parametrize(
    ("champion", "is_promoted", "text"),
    [
        (
            _champion(200.0),
            True,
            "the new champion replaces version 3 with 200 (190 to 210), "
            "against 350.0 (300.0 to 400.0) now",
        ),
        (
            _champion(395.0),
            False,
            "the champion stays version 3 with 395 (385 to 405), against 350.0 (300.0 to 400.0) "
            "now (the intervals overlap); `promote` makes the new winner the champion",
        ),
        (
            _champion(1.0, "Acrobot-v1"),
            False,
            "the champion stays version 3 with 1 (-9 to 11); its environment is Acrobot-v1, and "
            "not CartPole-v1; `promote` makes the new winner the champion",
        ),
        (
            RegisteredPolicy("3", "", {}),
            True,
            "the new champion replaces version 3 with an unknown score; its environment is "
            "unknown, and not CartPole-v1",
        ),
    ],
)
def test_what_becomes_of_the_champion_is_explained(
    champion: RegisteredPolicy, is_promoted: bool, text: str
) -> None:
    assert CANDIDATE.explain(champion, is_promoted=is_promoted) == text
