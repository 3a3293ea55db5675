"""Optuna's relational storage, made ready for many hosts: patient, alive, made once."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from dqnkit._system.files import file_lock
from dqnkit._system.redaction import redact_passwords
from dqnkit._system.text import one_line
from dqnkit.errors import ArgumentError, StudyError
from dqnkit.tuning import _optuna

HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
"""Without a heartbeat, after which a trial's process counts as dead."""
PATIENCE_SECONDS = 120.0
"""Longest that a search under way waits for a database that does not answer."""
_RETRY_SECONDS = 1.0
_BUSY_SECONDS = 20
"""Longest that SQLite waits for another process's write."""

# libpq's: a host that is cut off must not wait for its system to notice, which takes a quarter of
# an hour. What the URL says goes first.
_POSTGRESQL = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "dqnkit",
    # The server's side of it, so that a host that is gone holds no lock for hours; and heartbeats
    # by a clock that knows no summer.
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def parse(given: str) -> URL:
    """A database's URL; PostgreSQL's without a driver gets the one of the extra.

    Raises:
      ConfigError: It is none.
    """
    try:
        url = sqlalchemy.make_url(given)
        if url.drivername in {"postgres", "postgresql"}:
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect()
    except Exception as error:  # SQLAlchemy's, or of whatever module a scheme names
        raise ArgumentError(
            "storage",
            repr(redact_passwords(given)),
            "expected the URL of a database, such as postgresql+psycopg://host/name or "
            "sqlite:///studies.db",
        ) from error
    return url


def shown(url: URL) -> str:
    """The URL as it may be shown, and be given again where the password is in the environment."""
    secret = [key for key in url.query if "password" in key.lower()]
    bare = URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    )
    return bare.difference_update_query(secret).render_as_string()


def connect(url: URL, is_hurried: Callable[[], bool]) -> PatientStorage:
    """Opens a database; an empty one gets its tables, from one process at a time.

    Args:
      url: Of it.
      is_hurried: Whether somebody waits for this process to end, so that no call should.

    Raises:
      ConfigError: Its driver is not installed.
      Exception: Whatever the driver raises; RuntimeError for the tables of another Optuna.
    """
    text = url.render_as_string(hide_password=False)
    with warnings.catch_warnings(), locked(url, "tables"):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = PatientStorage(
            text,
            {"connect_args": _arguments(url), "pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )
    storage.is_hurried = is_hurried
    return storage


@contextlib.contextmanager
def locked(url: URL, what: str) -> Iterator[None]:
    """One process at a time, on whatever host; not to be nested.

    PostgreSQL and SQLite know locks that end with their process. Elsewhere nothing is locked, and
    the first start of a study should have ended its opening before the second begins.
    """
    kind = url.get_backend_name()
    if kind == "postgresql":
        with _advisory_lock(url, what):
            yield
    elif kind == "sqlite" and url.database:
        path = Path(url.database.removeprefix("file:"))
        with file_lock(path.with_name(f".{path.name}.lock")):
            yield
    else:
        yield


def _arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": _BUSY_SECONDS}
    if url.get_backend_name() == "postgresql":
        chosen = {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
        return chosen | _tls_beside_tensorflow(url)
    return {}


def _tls_beside_tensorflow(url: URL) -> dict[str, str]:
    """TensorFlow's libraries and psycopg's have each their own TLS, and one ends the process.

    Raises:
      ConfigError: TLS is wanted in a process that has loaded TensorFlow.
    """
    if "tensorflow" not in sys.modules:
        return {}
    wanted = str(url.query.get("sslmode", os.environ.get("PGSSLMODE", "prefer")))
    if wanted not in {"disable", "allow", "prefer"}:
        raise ArgumentError(
            "storage",
            shown(url),
            f"sslmode={wanted} is not possible in a process that has loaded TensorFlow: open the "
            "study in one that has not, as `dqnkit tune` does",
        )
    return {"sslmode": "disable"}


@contextlib.contextmanager
def _advisory_lock(url: URL, what: str) -> Iterator[None]:
    engine = _engine(url)
    key = zlib.crc32(f"dqnkit {what}".encode())
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            yield  # the end of the connection is that of the lock
    finally:
        engine.dispose()


def _engine(url: URL) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        url, connect_args=_arguments(url), poolclass=sqlalchemy.NullPool
    )


def _patiently(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Calls again while the database does not answer, and gives up after a while.

    A call whose answer was lost is made twice. What that may do is nothing; or a trial that no
    process owns, which is found like one whose process has died; or one that waits twice, and
    takes a place among those that are wanted; or an error that says that a trial has ended, which
    `SharedStudy.tell` understands, and `fail` takes for another process's doing.
    """

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        storage = args[0]
        assert isinstance(storage, PatientStorage)
        deadline = time.monotonic() + storage.patience
        while True:
            try:
                result = method(*args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                if not _is_of_the_connection(_cause(error)):
                    raise
                storage.last_failure = time.monotonic()
                if time.monotonic() >= deadline or storage.is_hurried():
                    storage.patience = 0.0  # whoever cleans up need not wait once more
                    raise StudyError(storage.explained(error)) from error
                time.sleep(_RETRY_SECONDS)
            else:
                return result

    return call


class PatientStorage(RDBStorage):
    """Optuna's storage, whose calls wait for a database that is away for a while."""

    patience = PATIENCE_SECONDS
    """Seconds that a call may take."""
    is_hurried: Callable[[], bool]
    last_failure = -math.inf
    """By `time.monotonic`: when it last did not answer."""

    def explained(self, error: BaseException) -> str:
        """What went wrong, without a password."""
        return (
            f"the storage of studies {shown(sqlalchemy.make_url(self.url))} does not answer: "
            f"{explain_driver_error(_cause(error))}. Trials that ended are kept; start the same command "
            "again when it does"
        )


for _name in BaseStorage.__abstractmethods__ | _optuna.RDB_METHODS:
    setattr(PatientStorage, _name, _patiently(getattr(RDBStorage, _name)))


def _cause(error: BaseException) -> BaseException:
    """The driver's trouble, which Optuna wraps, and hides where it asks again after it."""
    cause = error.__cause__ or error if isinstance(error, StorageInternalError) else error
    return cause.__context__ or cause if isinstance(cause, PendingRollbackError) else cause


def _is_of_the_connection(cause: BaseException) -> bool:
    """A server that ends a session has names of several kinds for that.

    An OperationalError may also be a disk that is full or a query that was cancelled: what passes.
    """
    return isinstance(cause, OperationalError | InterfaceError) or (
        isinstance(cause, DBAPIError) and cause.connection_invalidated
    )


def explain_driver_error(error: BaseException) -> str:
    """Return the text of a driver's exception, without SQLAlchemy's statements and links."""
    return one_line(str(error).partition("\n[SQL")[0].partition("(Background on this error")[0])
