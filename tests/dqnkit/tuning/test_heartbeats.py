from __future__ import annotations

import time
import warnings

import optuna
import pytest

from dqnkit.processes import identity
from dqnkit.tuning import _optuna, heartbeats
from dqnkit.tuning.attributes import TrialAttr
from dqnkit.tuning.heartbeats import TrialHeartbeats
from dqnkit.tuning.retrying_storage import GRACE_SECONDS, RetryingStorage
from dqnkit.tuning.storage import StudyStorage, locate_storage
from tests.dqnkit.tuning.helpers import (
    REMOTE_PROCESS,
    age_heartbeats,
    as_process,
    dead_process,
    read_heartbeats,
)


@pytest.fixture
def sqlite() -> StudyStorage:
    return locate_storage("sqlite:///studies.db")


def _study(storage: StudyStorage) -> optuna.Study:
    return optuna.create_study(storage=storage.open("s"), study_name="s", load_if_exists=True)


def _numbers(trials: list[optuna.trial.FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


def test_ask_hides_optunas_warning_about_heartbeats(sqlite: StudyStorage) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TrialHeartbeats(_study(sqlite)).ask()


def test_a_claimed_trial_names_its_process(storage: StudyStorage) -> None:
    study = _study(storage)
    beats = TrialHeartbeats(study)
    beats.claim(beats.ask())
    assert study.trials[0].user_attrs[TrialAttr.PROCESS] == identity.identity()
    assert beats.abandoned(study.trials) == []


def test_heartbeats_are_recorded_until_the_trial_is_released(
    sqlite: StudyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(sqlite)
    beats = TrialHeartbeats(study)
    assert beats._storage is not None
    monkeypatch.setattr(beats._storage, "get_heartbeat_interval", lambda: 0.05)
    trial = beats.ask()
    beats.claim(trial)
    age_heartbeats(sqlite, 1_000)
    aged = read_heartbeats(sqlite)
    deadline = time.monotonic() + 20
    while read_heartbeats(sqlite) == aged:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    beats.release(trial)
    while beats._has_thread:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    age_heartbeats(sqlite, 1_000)
    aged = read_heartbeats(sqlite)
    time.sleep(0.2)
    assert read_heartbeats(sqlite) == aged


def test_the_first_heartbeat_is_retried(
    sqlite: StudyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = TrialHeartbeats(_study(sqlite))
    record = beats._storage.record_heartbeat  # type: ignore[union-attr]
    failures = [OSError("lost"), OSError("lost")]

    def fail_twice(trial_id: int) -> None:
        if failures:
            raise failures.pop()
        record(trial_id)

    monkeypatch.setattr(beats._storage, "record_heartbeat", fail_twice)
    monkeypatch.setattr(heartbeats, "_RETRY_SECONDS", 0.0)
    beats.claim(beats.ask())
    assert failures == []
    assert len(read_heartbeats(sqlite)) == 1


def test_trials_of_dead_processes_of_this_host_are_abandoned(storage: StudyStorage) -> None:
    study = _study(storage)
    beats = TrialHeartbeats(study)
    with as_process(dead_process()):
        dead = TrialHeartbeats(study)
        dead.claim(dead.ask())
    own = beats.ask()
    beats.claim(own)
    assert _numbers(beats.abandoned(study.trials)) == [0]
    study.tell(0, state=optuna.trial.TrialState.FAIL)
    assert beats.abandoned(study.trials) == []


def test_trials_of_another_host_are_abandoned_when_their_heartbeats_stop(
    storage: StudyStorage,
) -> None:
    study = _study(storage)
    with as_process(REMOTE_PROCESS):
        remote = TrialHeartbeats(study)
        trial = remote.ask()
        remote.claim(trial)
        remote.release(trial)  # stops its heartbeats
    beats = TrialHeartbeats(study)
    assert beats.abandoned(study.trials) == []
    if storage.url is None:
        return  # a journal has no heartbeats, and belongs to one host
    age_heartbeats(storage, GRACE_SECONDS - 20)
    assert beats.abandoned(study.trials) == []
    age_heartbeats(storage, 25)
    assert _numbers(beats.abandoned(study.trials)) == [0]


def test_a_machine_with_the_same_host_name_is_judged_by_its_heartbeats(
    sqlite: StudyStorage,
) -> None:
    host, _, namespace, *_ = identity.identity().split("/")
    study = _study(sqlite)
    with as_process(f"{host}/another-boot/{namespace}/7/7"):
        remote = TrialHeartbeats(study)
        trial = remote.ask()
        remote.claim(trial)
        remote.release(trial)
    beats = TrialHeartbeats(study)
    assert beats.abandoned(study.trials) == []
    age_heartbeats(sqlite, GRACE_SECONDS + 5)
    assert _numbers(beats.abandoned(study.trials)) == [0]


def test_own_trials_are_never_abandoned(sqlite: StudyStorage) -> None:
    study = _study(sqlite)
    beats = TrialHeartbeats(study)
    beats.claim(beats.ask())
    age_heartbeats(sqlite, 10 * GRACE_SECONDS)
    assert beats.abandoned(study.trials) == []


def test_no_process_counts_as_dead_after_an_outage_of_the_database(
    sqlite: StudyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(sqlite)
    with as_process(REMOTE_PROCESS):
        remote = TrialHeartbeats(study)
        trial = remote.ask()
        remote.claim(trial)
        remote.release(trial)
    age_heartbeats(sqlite, GRACE_SECONDS + 5)
    beats = TrialHeartbeats(study)
    backend = _optuna.backend_of(_optuna.storage_of(study))
    assert isinstance(backend, RetryingStorage)
    backend.last_failure = time.monotonic()
    assert beats.abandoned(study.trials) == []
    backend.last_failure = time.monotonic() - GRACE_SECONDS
    assert _numbers(beats.abandoned(study.trials)) == [0]


def test_a_trial_that_names_no_process_is_abandoned_after_a_while(
    storage: StudyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(storage)
    beats = TrialHeartbeats(study)
    beats.ask()  # its process may be about to write its name
    assert beats.abandoned(study.trials) == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + heartbeats._UNOWNED_SECONDS + 1)
    assert _numbers(beats.abandoned(study.trials)) == [0]
