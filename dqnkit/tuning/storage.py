"""Where studies are kept: a journal beside the runs, or a database that several machines share."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from dqnkit.config import NAME_PATTERN
from dqnkit.errors import ConfigError, StudyError
from dqnkit.secrets import without_password
from dqnkit.tracking.store import EMBEDDED

_SUFFIX = ".journal"
_BUSY_SECONDS = 20


@dataclass(frozen=True)
class StudyStorage:
    """A place that holds studies by name."""

    url: str | None
    """Of a database; None for the embedded journals, one a study."""

    @property
    def place(self) -> str:
        """As messages name it, without a password."""
        return without_password(self.url) if self.url else str(EMBEDDED / "studies")

    def names(self) -> list[str]:
        """The studies that it holds."""
        if self.url is None:
            return sorted(path.stem for path in _folder().glob(f"*{_SUFFIX}"))
        with self.explained():
            return list(optuna.get_all_study_names(self._database()))

    def open(self, name: str) -> BaseStorage:
        """What Optuna keeps the study in; made where it is missing.

        Raises:
          ConfigError: The name or the URL is none.
          StudyError: The storage does not answer, or cannot be written.
        """
        if len(name) > 100 or not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"--study {name!r}: a name has letters, digits, dots, hyphens and underscores, "
                "begins with a letter or digit, and has 100 characters at most"
            )
        with self.explained():
            return self._database() if self.url is not None else _journal(name)

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
            text = without_password(" ".join(str(error).split()))[:300]
            raise StudyError(
                f"the storage of studies {self.place} cannot be used: {text}. "
                "Name another by --storage, or leave it out for the embedded one"
            ) from error

    def _database(self) -> BaseStorage:
        assert self.url is not None
        sqlite = self.url.startswith("sqlite")
        arguments = {"timeout": _BUSY_SECONDS} if sqlite else {}
        return RDBStorage(self.url, engine_kwargs={"connect_args": arguments})


def resolve(url: str | None) -> StudyStorage:
    """The storage of a `--storage`, else the embedded one.

    Raises:
      ConfigError: It is no database's URL.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is not None and not re.match(r"[a-z]+(\+[a-z0-9]+)?://", url):
        raise ConfigError(
            f"--storage {without_password(url)!r}: give the URL of a database, such as "
            "postgresql+psycopg://host/name or sqlite:///studies.db"
        )
    return StudyStorage(url)


def _folder() -> Path:
    return EMBEDDED.resolve() / "studies"


def _journal(name: str) -> BaseStorage:
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of studies {folder} cannot be written: {error.strerror}; run in a folder "
            "that can be, or name a database by --storage"
        ) from error
    path = str(folder / f"{name}{_SUFFIX}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
