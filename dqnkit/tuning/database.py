"""Databases of studies that several hosts share: connections and locks."""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import sqlalchemy
from sqlalchemy.engine import URL

from dqnkit._system.files import file_lock
from dqnkit.tuning.database_url import connect_arguments
from dqnkit.tuning.retrying_storage import RetryingStorage


def connect(url: URL, is_interrupted: Callable[[], bool]) -> RetryingStorage:
    """Open a database; create the tables of an empty one, in one process at a time.

    Args:
      url: URL of the database.
      is_interrupted: Returns True if this process is about to end, so calls must not wait.

    Raises:
      ArgumentError: If PostgreSQL requires TLS and this process has loaded TensorFlow.
      ImportError: If the driver is not installed.
      Exception: Any exception of the driver; RuntimeError if another version of Optuna made the
        tables.
    """
    with warnings.catch_warnings(), lock(url, "tables"):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RetryingStorage(
            url.render_as_string(hide_password=False), connect_arguments(url), is_interrupted
        )


@contextlib.contextmanager
def lock(url: URL, name: str) -> Iterator[None]:
    """Let one process at a time, on any host, run the body. Locks must not be nested.

    The locks of PostgreSQL and SQLite end with their process. Other databases are not locked:
    with these, start a second process only once the first has opened the study.
    """
    backend = url.get_backend_name()
    if backend == "postgresql":
        with _advisory_lock(url, name):
            yield
    elif backend == "sqlite" and url.database:
        path = Path(url.database.removeprefix("file:"))
        with file_lock(path.with_name(f".{path.name}.lock")):
            yield
    else:
        yield


@contextlib.contextmanager
def _advisory_lock(url: URL, name: str) -> Iterator[None]:
    engine = sqlalchemy.create_engine(
        url, connect_args=connect_arguments(url), poolclass=sqlalchemy.NullPool
    )
    key = zlib.crc32(f"dqnkit {name}".encode())
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            yield  # the lock is released when the connection closes
    finally:
        engine.dispose()
