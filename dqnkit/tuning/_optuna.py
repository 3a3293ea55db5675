"""Private names of Optuna 5 that dqnkit depends on, in one place.

Optuna has no public access to heartbeats outside its own loop over trials, to the storage of a
study, or to the attributes of a trial that another process runs.
"""

from __future__ import annotations

from typing import Any, cast

import optuna
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial

RDB_METHODS = frozenset(
    {"_create_new_trial", "_get_stale_trial_ids", "_get_trials", "_set_trial_param"}
)
"""Methods of `RDBStorage`, besides those of `BaseStorage`, that its cache and heartbeats call."""


def storage_of(study: optuna.Study) -> BaseStorage:
    """Return the storage of a study."""
    return study._storage


def backend_of(storage: BaseStorage) -> object:
    """Return the storage behind a cache; None if there is no cache."""
    return getattr(storage, "_backend", None)


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the id of a trial in its storage, which is not its number."""
    return trial._trial_id


def set_trial_attr(
    study: optuna.Study, trial: optuna.Trial | FrozenTrial, key: str, value: Any
) -> None:
    """Set a user attribute of a trial.

    `optuna.Trial.set_user_attr` would need an `optuna.Trial`, which samples parameters when it is
    made.
    """
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


def heartbeat_storage_of(study: optuna.Study) -> BaseHeartbeat | None:
    """Return the storage of a study if it records heartbeats, else None."""
    storage = study._storage
    if isinstance(storage, BaseHeartbeat) and is_heartbeat_enabled(storage):
        return storage
    return None


def stale_trial_ids(storage: BaseHeartbeat, study: optuna.Study) -> set[int]:
    """Return the ids of running trials whose heartbeats have stopped."""
    return set(storage._get_stale_trial_ids(study._study_id))


def fixed_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that a trial was enqueued with, including those not suggested yet."""
    return cast("dict[str, Any]", trial.system_attrs.get("fixed_params", {}))
