"""Where runs are kept: the embedded store under `mlruns/`, or an MLflow server."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dqnkit._system.redaction import redact_passwords
from dqnkit.errors import ConfigError

EMBEDDED = Path("mlruns")
"""Folder of the default store, in the working directory."""


@dataclass(frozen=True)
class StoreLocation:
    """An MLflow tracking store."""

    uri: str
    """As MLflow takes it."""
    artifacts: Path | None
    """Folder for artifacts; None leaves them to the server."""
    database: Path | None = None
    """File of an embedded store."""

    @property
    def is_empty(self) -> bool:
        """Whether an embedded store has not been made yet."""
        return self.database is not None and (
            not self.database.is_file() or self.database.stat().st_size == 0
        )

    def make(self) -> StoreLocation:
        """Makes an embedded store's folders, so that it is known to be writable; gives itself.

        Raises:
          ConfigError: It cannot be written.
        """
        if self.database is None or self.artifacts is None:
            return self
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            with self.database.open("ab"):
                pass
        except OSError as error:
            raise ConfigError(
                f"the tracking store {self.database} cannot be written: {error.strerror}; run in a "
                "folder that can be, or name another store by --tracking-uri"
            ) from error
        return self

    @property
    def home(self) -> Path:
        """Folder of what is kept on this machine until the store has it."""
        return self.artifacts.parent if self.artifacts else EMBEDDED.resolve()

    @property
    def name(self) -> str:
        """As messages have it."""
        return redact_passwords(self.uri)

    @property
    def address(self) -> str | None:
        """Where a server shows itself; None for what `dqnkit ui` must serve."""
        if self.uri.startswith(("http://", "https://", "databricks")):
            return redact_passwords(self.uri).rstrip("/")
        return None

    @property
    def ui_command(self) -> str:
        """The command that shows it."""
        return self.command("ui")

    def command(self, words: str) -> str:
        """A command line of ours that means this store."""
        if self.database == (EMBEDDED / "mlflow.db").resolve():
            return f"dqnkit {words}"
        return f"dqnkit {words} --tracking-uri {shlex.quote(self.name)}"


def locate_store(tracking_uri: str | None = None) -> StoreLocation:
    """The store of a `--tracking-uri`, else of MLFLOW_TRACKING_URI, else the embedded one.

    A folder holds an embedded store of its own: a database and the artifacts.

    Raises:
      ConfigError: The URI is of no kind that is known here.
    """
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or str(EMBEDDED)
    if given == "databricks":
        return StoreLocation(given, artifacts=None)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", given)
    if scheme is None or scheme[1] == "file":
        folder = _path(unquote(re.sub(r"^file:(//)?", "", given)) if scheme else given)
        return _embedded(folder, folder / "mlflow.db")
    if scheme[1] in {"http", "https"}:
        return StoreLocation(given, artifacts=None)
    if scheme[1] == "sqlite":
        path, query, options = given.removeprefix("sqlite:///").partition("?")
        database = _path(unquote(path))
        return _embedded(database.parent, database, query + options)
    if scheme[1].partition("+")[0] in {"postgresql", "mysql", "mssql"}:
        return StoreLocation(given, artifacts=EMBEDDED.resolve() / "artifacts")
    raise ConfigError(
        f"tracking URI {given!r}: {scheme[1]!r} is no kind of store known here; "
        "give http(s)://…, sqlite:///…, postgresql://… or a folder"
    )


def experiment_url(experiment_id: str) -> str:
    """Where MLflow's UI shows an experiment's runs as charts, below the server's address.

    Without being told, it opens in a mode for language models.
    """
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    )


def _path(given: str) -> Path:
    try:
        return Path(given).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a NUL in it, a loop
        raise ConfigError(f"tracking URI {given!r}: is no path: {error}") from error


def _embedded(folder: Path, database: Path, options: str = "") -> StoreLocation:
    # SQLAlchemy takes a percent sign for an escape.
    path = str(database).replace("%", "%25")
    return StoreLocation(f"sqlite:///{path}{options}", folder / "artifacts", database)
