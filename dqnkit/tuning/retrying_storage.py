"""Optuna's relational storage with calls that wait for a database that does not answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from dqnkit._system.text import one_line
from dqnkit.errors import StudyError
from dqnkit.tuning import _optuna
from dqnkit.tuning.database_url import without_password

HEARTBEAT_SECONDS = 10
"""Interval between the heartbeats of a trial."""
GRACE_SECONDS = 60
"""Time without a heartbeat after which the process of a trial counts as dead."""
PATIENCE_SECONDS = 120.0
"""Maximum time that a call waits for a database that does not answer."""
_RETRY_SECONDS = 1.0

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _retry_until_answered(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a method of the storage so that it is repeated while the database is unavailable.

    A call whose answer was lost is made twice. The possible effects of the second call are: none;
    a running trial that no process owns, which is found like one whose process has died; a second
    waiting trial, which takes the place of one that would have been sampled; or an error that the
    trial has ended, which `SharedStudy.tell` recognises, and which `SharedStudy.fail` attributes
    to another process.
    """

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        storage = args[0]
        assert isinstance(storage, RetryingStorage)
        deadline = time.monotonic() + storage.patience
        while True:
            try:
                result = method(*args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                if not _is_connection_error(_driver_error(error)):
                    raise
                storage.last_failure = time.monotonic()
                if time.monotonic() >= deadline or storage.is_interrupted():
                    storage.patience = 0.0  # calls that clean up must not wait once more
                    raise StudyError(storage.describe_failure(error)) from error
                time.sleep(_RETRY_SECONDS)
            else:
                return result

    return call


class RetryingStorage(RDBStorage):
    """Optuna's relational storage, whose calls wait while the database does not answer.

    A call raises StudyError if the database does not answer for `patience` seconds, or if the
    process is interrupted.
    """

    patience = PATIENCE_SECONDS
    """Maximum time in seconds that a call waits."""
    last_failure = -math.inf
    """Time of `time.monotonic` at which the database last failed to answer."""

    def __init__(
        self, url: str, connect_args: Mapping[str, Any], is_interrupted: Callable[[], bool]
    ) -> None:
        """Connect to a database, and create the tables of an empty one.

        Args:
          url: URL of the database, with its password.
          connect_args: Keyword arguments for the driver's `connect`.
          is_interrupted: Returns True if this process is about to end, so calls must not wait.
        """
        self.is_interrupted = is_interrupted
        super().__init__(
            url,
            {"connect_args": connect_args, "pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )

    def describe_failure(self, error: BaseException) -> str:
        """Return a message for the user, without a password."""
        return (
            f"the storage of studies {without_password(sqlalchemy.make_url(self.url))} does not "
            f"answer: {explain_driver_error(_driver_error(error))}. Trials that ended are kept; "
            "start the search again when it does"
        )


for _name in BaseStorage.__abstractmethods__ | _optuna.RDB_METHODS:
    setattr(RetryingStorage, _name, _retry_until_answered(getattr(RDBStorage, _name)))


def _driver_error(error: BaseException) -> BaseException:
    """Return the driver's exception.

    Optuna wraps it, and hides it behind an error of the transaction if it retries by itself.
    """
    cause = error.__cause__ or error if isinstance(error, StorageInternalError) else error
    return cause.__context__ or cause if isinstance(cause, PendingRollbackError) else cause


def _is_connection_error(error: BaseException) -> bool:
    """Return whether a call may succeed later.

    Drivers report the end of a session by several classes of exceptions. An OperationalError may
    also be a full disk or a cancelled query, which are temporary too.
    """
    return isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def explain_driver_error(error: BaseException) -> str:
    """Return the text of a driver's exception, without SQLAlchemy's statements and links."""
    return one_line(str(error).partition("\n[SQL")[0].partition("(Background on this error")[0])
