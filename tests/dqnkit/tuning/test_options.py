from __future__ import annotations

from typing import Any

import pytest

from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.tuning.options import TuneOptions
from dqnkit.workers.placement import Placement


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        ("trials", 0, "from 1 to 1,000,000"),
        ("trials", 1_000_001, "from 1 to 1,000,000"),
        ("workers", 0, "from 1 to"),
        ("confirm", -1, "from 0 to 100"),
        ("seeds_per_trial", 101, "from 1 to 100"),
        ("timeout", 0.0, "seconds above 0"),
        ("timeout", float("nan"), "seconds above 0"),
        ("timeout", float("inf"), "up to 1e+09"),
    ],
)
def test_numbers_out_of_range_are_refused(argument: str, value: float, problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        TuneOptions(**{argument: value})  # type: ignore[arg-type]
    assert caught.value.argument == argument
    assert problem in caught.value.problem
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    "options", [{}, {"trials": 1}, {"timeout": 0.5}, {"confirm": 0}, {"workers": 8}]
)
def test_numbers_in_range_are_accepted(options: dict[str, Any]) -> None:
    TuneOptions(**options)


def test_arguments_are_those_that_differ_from_the_defaults() -> None:
    assert dict(TuneOptions().arguments()) == {"trials": "50"}
    options = TuneOptions(
        trials=8,
        study="mine",
        storage="postgresql://me:secret@h/d",
        pruner="none",
        timeout=60.0,
        retrain_repeats=True,
        promote=False,
        placement=Placement(launcher="ray", gpus=0.25),
    )
    assert dict(options.arguments()) == {
        "trials": "8",
        "study": "mine",
        "storage": "postgresql+psycopg://me@h/d",
        "pruner": "none",
        "timeout": "60.0",
        "retrain_repeats": True,
        "promote": False,
        "launcher": "ray",
        "gpus": "0.25",
    }


def test_nothing_can_be_promoted_without_confirmation() -> None:
    with pytest.raises(ArgumentError, match="there is no winner to promote; raise `confirm`"):
        TuneOptions(confirm=0, promote=True)
    TuneOptions(confirm=0, promote=False)
