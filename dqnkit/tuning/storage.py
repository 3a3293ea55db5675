"""Storage of studies: an Optuna journal beside the runs, or a database that hosts share."""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import URL

from dqnkit._system.files import file_lock
from dqnkit.config.sections import NAME_PATTERN
from dqnkit.errors import ArgumentError, ConfigError, StudyError
from dqnkit.tracking.location import EMBEDDED
from dqnkit.tuning import database
from dqnkit.tuning.database_url import parse_url, without_password
from dqnkit.tuning.retrying_storage import explain_driver_error

_SUFFIX = ".journal"
_MAX_NAME_LENGTH = 100
COMPANION_SEPARATOR = "/"
"""Separator in the name of a companion study. Names of other studies do not contain it."""


@dataclass(frozen=True)
class StudyStorage:
    """A storage of studies by name."""

    url: URL | None
    """URL of a database; None for the embedded journals, one per study."""
    is_interrupted: Callable[[], bool] = lambda: False
    """Function that returns True if this process is about to end, so calls must not wait."""

    @property
    def display_name(self) -> str:
        """Name of the storage in messages: its URL without passwords, or its folder."""
        return str(EMBEDDED / "studies") if self.url is None else without_password(self.url)

    @property
    def argument(self) -> str | None:
        """Value of the argument `storage` that selects this storage; None for the embedded one."""
        return self.display_name if self.url else None

    def study_names(self) -> list[str]:
        """Return the names of the studies.

        Raises:
          ArgumentError: If the driver of the database is not installed.
          StudyError: If the storage does not answer.
        """
        if self.url is None:
            return sorted(path.stem for path in _folder().glob(f"*{_SUFFIX}"))
        with self.wrap_errors():
            names = optuna.get_all_study_names(self._database)
        return [name for name in names if COMPANION_SEPARATOR not in name]

    def open(self, name: str) -> BaseStorage:
        """Return Optuna's storage for a study, created if it does not exist.

        Raises:
          ArgumentError: If no study can have the name, or the driver of the database is not
            installed.
          StudyError: If the storage does not answer, or cannot be written.
        """
        check_name(name)
        with self.wrap_errors():
            return self._database if self.url is not None else _open_journal(name)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Let one process at a time, of all that use the study, run the body."""
        if self.url is None:
            with file_lock(_folder() / f".{name}.lock"):
                yield
        else:
            with database.lock(self.url, name):
                yield

    def dashboard_command(self, name: str) -> str:
        """Return the command that shows a study in optuna-dashboard."""
        journal = str(EMBEDDED / "studies" / f"{name}{_SUFFIX}")
        return f"uvx --with optuna optuna-dashboard {self.argument or journal}"

    @contextlib.contextmanager
    def wrap_errors(self) -> Iterator[None]:
        """Raise errors of Optuna, SQLAlchemy and the file system as errors of dqnkit."""
        try:
            yield
        except (ConfigError, StudyError):
            raise
        except Exception as error:  # any exception of a database driver
            driver = self.url and self.url.get_driver_name()
            if isinstance(error, ImportError) and driver in {"psycopg", "psycopg2"}:
                raise ArgumentError(
                    "storage",
                    self.display_name,
                    "PostgreSQL needs a driver: install 'dqnkit[postgresql]', or psycopg[binary] "
                    "beside it",
                ) from error
            advice = "Choose another one with `storage`, or leave it out for the embedded one"
            if self.url is None:
                advice = (
                    f"The file of the study is in {_folder()}: restore it, or move it away to "
                    "begin the study anew"
                )
            raise StudyError(
                f"the storage of studies {self.display_name} cannot be used: "
                f"{explain_driver_error(error)}. {advice}"
            ) from error

    @cached_property
    def _database(self) -> BaseStorage:
        assert self.url is not None
        return get_storage(database.connect(self.url, self.is_interrupted))


def locate_storage(
    storage: str | None, is_interrupted: Callable[[], bool] = lambda: False
) -> StudyStorage:
    """Return the storage of studies.

    Args:
      storage: URL of a database; None takes that of DQNKIT_STORAGE, or else the embedded storage.
      is_interrupted: Returns True if this process is about to end, so calls must not wait.

    Raises:
      ArgumentError: If it is not the URL of a database.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = storage or os.environ.get("DQNKIT_STORAGE")
    return StudyStorage(parse_url(url) if url else None, is_interrupted)


def check_name(name: str) -> None:
    """Check that a study can have a name, which is also part of a path.

    Raises:
      ArgumentError: If it cannot.
    """
    if len(name) > _MAX_NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        raise ArgumentError(
            "study",
            repr(name),
            "a name consists of letters, digits, dots, hyphens and underscores, begins with a "
            f"letter or digit, and has at most {_MAX_NAME_LENGTH} characters",
        )


def _folder() -> Path:
    return EMBEDDED.resolve() / "studies"


def _open_journal(name: str) -> BaseStorage:
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of studies {folder} cannot be written: {error.strerror}; run in a "
            "writable folder, or choose a database with `storage`"
        ) from error
    path = folder / f"{name}{_SUFFIX}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        lock = JournalFileOpenLock(str(path))
        _repair_end(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock))


def _repair_end(path: Path, lock: JournalFileOpenLock) -> None:
    """Complete or remove a last line that was being written when its process or machine died.

    Optuna would append to it, and find a damaged line in the middle of the file ever after.
    """
    if _has_whole_end(path):
        return
    lock.acquire()
    try:
        if _has_whole_end(path):  # another process was writing it
            return
        content = path.read_bytes()
        begin = content.rfind(b"\n") + 1
        try:
            json.loads(content[begin:])
        except ValueError:
            os.truncate(path, begin)
        else:
            with path.open("ab") as file:
                file.write(b"\n")
    finally:
        lock.release()


def _has_whole_end(path: Path) -> bool:
    """Return whether a file is missing, empty, or ends with a line break."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:  # an empty file has no last byte
        return True
