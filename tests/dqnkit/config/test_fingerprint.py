from __future__ import annotations

import pytest

from dqnkit.config import loading
from dqnkit.config.fingerprint import fingerprint


@pytest.mark.parametrize(
    "change",
    ["training.seed=7", "description=else", "env.step_timeout=9", "tracking.tags={a: b}"],
)
def test_what_does_not_change_learning_does_not_change_the_fingerprint(change: str) -> None:
    assert fingerprint(loading.load("cartpole", [change])) == fingerprint(loading.load("cartpole"))


@pytest.mark.parametrize("change", ["agent.gamma=0.98", "env.kwargs.x=1", "name=other"])
def test_what_may_change_learning_changes_the_fingerprint(change: str) -> None:
    assert fingerprint(loading.load("cartpole", [change])) != fingerprint(loading.load("cartpole"))


def test_values_are_told_apart_beyond_the_length_that_mlflow_keeps() -> None:
    long = "x" * 7_000
    one, two = (loading.load("cartpole", {"env.kwargs": {"a": long + end}}) for end in "ab")
    assert fingerprint(one) != fingerprint(two)
