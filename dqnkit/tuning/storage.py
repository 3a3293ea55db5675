"""Where studies are kept: a journal beside the runs, or a database that several machines share."""

from __future__ import annotations

import contextlib
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
from dqnkit.tuning import rdb

_SUFFIX = ".journal"
COMPANION = "/"
"""In the name of what stands beside a study in its storage, and in no name of a study."""


@dataclass(frozen=True)
class StudyStorage:
    """A place that holds studies by name."""

    url: URL | None
    """Of a database; None for the embedded journals, one a study."""
    is_hurried: Callable[[], bool] = lambda: False
    """Whether somebody waits for this process to end, so that no call should wait."""

    @property
    def place(self) -> str:
        """As messages name it, without a password."""
        if self.url is None:
            return str(EMBEDDED / "studies")
        return rdb.shown(self.url)

    def names(self) -> list[str]:
        """The studies that it holds."""
        if self.url is None:
            return sorted(path.stem for path in _folder().glob(f"*{_SUFFIX}"))
        with self.explained():
            names = optuna.get_all_study_names(self._database)
        return [name for name in names if COMPANION not in name]

    def open(self, name: str) -> BaseStorage:
        """What Optuna keeps the study in; made where it is missing.

        Raises:
          ConfigError: The name or the URL is none.
          StudyError: The storage does not answer, or cannot be written.
        """
        check_name(name)
        with self.explained():
            return self._database if self.url is not None else _journal(name)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One process at a time, of those that open or change the study itself."""
        if self.url is None:
            with file_lock(_folder() / f".{name}.lock"):
                yield
        else:
            with rdb.locked(self.url, name):
                yield

    def dashboard(self, name: str) -> str:
        """The command that shows a study in optuna-dashboard."""
        where = self.place if self.url else str(EMBEDDED / "studies" / f"{name}{_SUFFIX}")
        return f"optuna-dashboard {where}"

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what Optuna, SQLAlchemy and files let out into ours."""
        try:
            yield
        except (ConfigError, StudyError):
            raise
        except Exception as error:  # whatever a database driver raises
            driver = self.url and self.url.get_driver_name()
            if isinstance(error, ImportError) and driver in {"psycopg", "psycopg2"}:
                raise ArgumentError(
                    "storage",
                    self.place,
                    "PostgreSQL needs a driver: install 'dqnkit[postgresql]', or psycopg[binary] "
                    "beside it",
                ) from error
            raise StudyError(
                f"the storage of studies {self.place} cannot be used: "
                f"{rdb.explain_driver_error(error)}. "
                "Choose another with `storage`, or leave it out for the embedded one"
            ) from error

    @cached_property
    def _database(self) -> BaseStorage:
        assert self.url is not None
        return get_storage(rdb.connect(self.url, self.is_hurried))


def locate_storage(url: str | None, is_hurried: Callable[[], bool] = lambda: False) -> StudyStorage:
    """The storage of a `--storage`, else of DQNKIT_STORAGE, else the embedded one.

    Args:
      url: Of a database.
      is_hurried: See `StudyStorage`.

    Raises:
      ConfigError: It is no database's URL.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given = url or os.environ.get("DQNKIT_STORAGE")
    return StudyStorage(rdb.parse(given) if given else None, is_hurried)


def check_name(name: str) -> None:
    """Refuses what no study may be called.

    Raises:
      ConfigError: The name is such.
    """
    if len(name) > 100 or not re.fullmatch(NAME_PATTERN, name):
        raise ArgumentError(
            "study",
            repr(name),
            "a name consists of letters, digits, dots, hyphens and underscores, begins with a letter "
            "or digit, and has at most 100 characters",
        )


def _folder() -> Path:
    return EMBEDDED.resolve() / "studies"


def _journal(name: str) -> BaseStorage:
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of studies {folder} cannot be written: {error.strerror}; run in a folder "
            "that can be, or choose a database with `storage`"
        ) from error
    path = str(folder / f"{name}{_SUFFIX}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
