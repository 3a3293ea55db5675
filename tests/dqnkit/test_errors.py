from __future__ import annotations

import inspect
import pickle

import pytest

import dqnkit
from dqnkit import errors
from dqnkit.errors import ArgumentError, ConfigError, DqnkitError, InterruptedRun

ERRORS = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if each.__module__ == errors.__name__
]


def test_an_argument_error_names_argument_value_and_problem() -> None:
    error = ArgumentError("trials", 0, "expected at least 1")
    assert str(error) == "trials=0: expected at least 1"
    assert isinstance(error, ConfigError)


def test_an_argument_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ArgumentError("trials", 0, "expected at least 1")))
    assert (error.argument, error.value, error.problem) == ("trials", 0, "expected at least 1")


@pytest.mark.parametrize("error", ERRORS)
def test_the_exit_code_tells_wrong_use_interruption_and_failure_apart(
    error: type[DqnkitError],
) -> None:
    assert issubclass(error, DqnkitError)
    if issubclass(error, ConfigError):
        assert error.exit_code == 2
    else:
        assert error.exit_code == (130 if error is InterruptedRun else 1)


def test_a_notebook_finds_the_exceptions_from_the_package() -> None:
    assert dqnkit.errors is errors
