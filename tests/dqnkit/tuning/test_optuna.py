from __future__ import annotations

import optuna
from optuna.storages import RDBStorage

from dqnkit.tuning import _optuna


def test_the_database_storage_has_all_methods_that_are_retried() -> None:
    assert all(callable(getattr(RDBStorage, name)) for name in _optuna.RDB_METHODS)


def test_storage_and_backend_of_a_study() -> None:
    study = optuna.create_study(storage="sqlite://")
    assert isinstance(_optuna.backend_of(_optuna.storage_of(study)), RDBStorage)
    assert _optuna.backend_of(_optuna.storage_of(optuna.create_study())) is None


def test_heartbeats_need_a_storage_that_records_them() -> None:
    assert _optuna.heartbeat_storage_of(optuna.create_study()) is None
    assert _optuna.heartbeat_storage_of(optuna.create_study(storage="sqlite://")) is None
    with_heartbeats = RDBStorage("sqlite://", heartbeat_interval=10, grace_period=60)
    study = optuna.create_study(storage=with_heartbeats)
    storage = _optuna.heartbeat_storage_of(study)
    assert storage is not None
    assert _optuna.stale_trial_ids(storage, study) == set()


def test_attributes_of_a_trial_are_set_without_sampling() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    trial = study.ask()
    frozen = study.trials[trial.number]
    _optuna.set_trial_attr(study, frozen, "key", "value")
    assert study.trials[0].user_attrs == {"key": "value"}
    assert _optuna.trial_id(frozen) == _optuna.trial_id(trial)
    assert _optuna.fixed_params(frozen) == {"x": 0.5}
    study.ask()
    assert _optuna.fixed_params(study.trials[1]) == {}
