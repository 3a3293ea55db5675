from __future__ import annotations

import contextlib
from collections.abc import Iterator

import optuna
import pytest

from dqnkit.processes import identity
from dqnkit.tuning.lease import Lease
from dqnkit.tuning.storage import StudyStorage
from tests.dqnkit.tuning.helpers import REMOTE_PROCESS, as_process, dead_process


@pytest.fixture
def study(storage: StudyStorage) -> optuna.Study:
    return optuna.create_study(storage=storage.open("s"), study_name="s", load_if_exists=True)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_one_process_holds_a_lease_at_a_time(study: optuna.Study) -> None:
    one, other = Lease(study, "work"), Lease(study, "work")
    with one.try_acquire() as acquired:
        assert acquired
        assert one.is_held
        with other.try_acquire() as also_acquired:
            assert not also_acquired
            assert not other.is_held
            assert other.holder == identity.identity()
    assert not one.is_held
    with other.try_acquire() as acquired:
        assert acquired


def test_leases_of_other_names_are_independent(study: optuna.Study) -> None:
    with (
        Lease(study, "work").try_acquire() as first,
        Lease(study, "rest").try_acquire() as second,
    ):
        assert first
        assert second


def test_of_two_processes_that_try_at_the_same_time_one_acquires(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Lease(study, "work"), Lease(study, "work")
    ask = other._heartbeats.ask
    with contextlib.ExitStack() as stack:

        def ask_after_the_other() -> optuna.Trial:
            assert stack.enter_context(one.try_acquire())
            return ask()

        monkeypatch.setattr(other._heartbeats, "ask", ask_after_the_other)
        with other.try_acquire() as acquired:
            assert not acquired
        assert one.is_held


def test_the_lease_of_a_dead_process_is_acquired(
    study: optuna.Study, stack: contextlib.ExitStack
) -> None:
    dead = Lease(study, "work")
    with as_process(dead_process()):
        stack.enter_context(dead.try_acquire())
    with Lease(study, "work").try_acquire() as acquired:
        assert acquired
        assert not dead.is_held  # if the process lives after all, it notices


def test_a_failure_of_the_work_releases_the_lease(study: optuna.Study) -> None:
    lease = Lease(study, "work")
    with pytest.raises(ZeroDivisionError), lease.try_acquire():
        raise ZeroDivisionError
    with lease.try_acquire() as acquired:
        assert acquired


def test_other_holder_is_a_living_process_other_than_this_one(
    study: optuna.Study, stack: contextlib.ExitStack
) -> None:
    lease = Lease(study, "work")
    assert lease.other_holder is None
    with Lease(study, "work").try_acquire():
        assert lease.other_holder is None
    with as_process(REMOTE_PROCESS):
        stack.enter_context(Lease(study, "work").try_acquire())
    assert lease.other_holder == REMOTE_PROCESS


def test_other_holder_ignores_dead_processes(
    study: optuna.Study, stack: contextlib.ExitStack
) -> None:
    with as_process(dead_process()):
        stack.enter_context(Lease(study, "work").try_acquire())
    assert Lease(study, "work").other_holder is None


def test_companion_studies_are_not_listed(storage: StudyStorage, study: optuna.Study) -> None:
    with Lease(study, "work").try_acquire():
        assert storage.study_names() == ["s"]
