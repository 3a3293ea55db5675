"""A right that one process has at a time: one suite for each kind of storage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import optuna
import pytest

from dqnkit.processes import identity
from dqnkit.tuning.lease import Lease
from dqnkit.tuning.storage import StudyStorage


@pytest.fixture
def opened(place: StudyStorage) -> optuna.Study:
    return optuna.create_study(storage=place.open("s"), study_name="s", load_if_exists=True)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_one_has_it_at_a_time(place: StudyStorage, opened: optuna.Study) -> None:
    one, other = Lease(opened, "work"), Lease(opened, "work")
    with one.taken() as mine:
        assert mine
        assert one.is_mine
        with other.taken() as theirs:
            assert not theirs
            assert not other.is_mine
            assert other.holder == identity.identity()
    assert not one.is_mine
    with other.taken() as theirs:
        assert theirs


def test_turns_of_other_things_are_others(opened: optuna.Study) -> None:
    with Lease(opened, "work").taken() as mine, Lease(opened, "rest").taken() as also:
        assert mine
        assert also


def test_of_two_that_come_together_one_has_it(
    opened: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Lease(opened, "work"), Lease(opened, "work")
    ask = other._liveness.ask
    with contextlib.ExitStack() as stack:

        def after_the_other() -> optuna.Trial:
            assert stack.enter_context(one.taken())
            return ask()

        monkeypatch.setattr(other._liveness, "ask", after_the_other)
        with other.taken() as mine:
            assert not mine
        assert one.is_mine


def test_it_does_not_die_with_its_process(
    opened: optuna.Study, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
) -> None:
    dead = Lease(opened, "work")
    with monkeypatch.context() as patched:
        host, boot, space, *_ = identity.identity().split("/")
        patched.setattr(identity, "identity", lambda: f"{host}/{boot}/{space}/999999999/1")
        stack.enter_context(dead.taken())
    with Lease(opened, "work").taken() as mine:
        assert mine
        assert not dead.is_mine  # were it alive after all, it would know


def test_it_is_given_back_when_its_work_fails(opened: optuna.Study) -> None:
    turn = Lease(opened, "work")
    with pytest.raises(ZeroDivisionError), turn.taken():
        raise ZeroDivisionError
    with turn.taken() as mine:
        assert mine


def test_it_is_no_study_that_anybody_sees(place: StudyStorage, opened: optuna.Study) -> None:
    with Lease(opened, "work").taken():
        assert place.names() == ["s"]
