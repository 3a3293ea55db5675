"""Location of a store: the embedded one under `mlruns/`, a database, or an MLflow server."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dqnkit._system.commands import as_typed, command_line
from dqnkit._system.redaction import redact_passwords
from dqnkit.errors import ArgumentError, ConfigError

AUTO = "auto"
"""Tracking URI that stands for MLFLOW_TRACKING_URI, or else the embedded store."""
EMBEDDED = Path("mlruns")
"""Folder of the embedded store, in the working directory."""


@dataclass(frozen=True)
class StoreLocation:
    """Location of an MLflow tracking store."""

    uri: str
    """URI for MLflow."""
    artifacts: Path | None
    """Folder of artifacts; None if a server keeps them."""
    database: Path | None = None
    """Database file of an embedded store."""
    is_default: bool = False
    """True for the embedded store that commands use unless they are given another."""

    @property
    def is_empty(self) -> bool:
        """True if the store is an embedded one that does not exist yet."""
        return self.database is not None and (
            not self.database.is_file() or self.database.stat().st_size == 0
        )

    def make(self) -> StoreLocation:
        """Create the files of an embedded store, which shows whether it is writable; return self.

        Raises:
          ConfigError: If it is not writable.
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
                "writable folder, or choose another store with `tracking_uri`"
            ) from error
        return self

    @property
    def home(self) -> Path:
        """Folder on this machine for records that the store has not received yet."""
        return self.artifacts.parent if self.artifacts else EMBEDDED.resolve()

    @property
    def name(self) -> str:
        """Name of the store in messages: its URI without a password."""
        return redact_passwords(self.uri)

    @property
    def address(self) -> str | None:
        """Address of the server's UI; None for a store that `dqnkit ui` serves."""
        if self.uri.startswith(("http://", "https://", "databricks")):
            return redact_passwords(self.uri).rstrip("/")
        return None

    def command_line(self, command: str, **arguments: str | None) -> str:
        """Return the line of a `dqnkit` command that applies to this store."""
        uri = None if self.is_default else self.name
        return command_line(command, **arguments, tracking_uri=uri)

    def mlflow_command_line(self, arguments: str) -> str:
        """Return the line of an `mlflow` command that applies to this store."""
        return f"MLFLOW_TRACKING_URI={shlex.quote(self.name)} {as_typed(f'mlflow {arguments}')}"


def locate_store(tracking_uri: str | None = AUTO) -> StoreLocation:
    """Return the location of a store.

    Args:
      tracking_uri: `http(s)://…`, `sqlite:///…`, `postgresql://…`, or a folder, which holds an
        embedded store of its own. "auto", or an empty text, takes MLFLOW_TRACKING_URI, or else
        `mlruns/`.

    Raises:
      ConfigError: If the URI is None or of an unknown kind.
    """
    if tracking_uri is None:
        raise ArgumentError("tracking_uri", None, "there is no store to read; give its URI")
    is_given = tracking_uri not in {AUTO, ""}
    given = tracking_uri if is_given else os.environ.get("MLFLOW_TRACKING_URI") or str(EMBEDDED)
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
        f"tracking URI {given!r}: the scheme {scheme[1]!r} is unknown; give http(s)://…, "
        "sqlite:///…, postgresql://… or a folder"
    )


def locate_optional_store(tracking_uri: str | None = AUTO) -> StoreLocation | None:
    """Return the location of a store, or None for None, which stands for no store."""
    return None if tracking_uri is None else locate_store(tracking_uri)


def experiment_url(experiment_id: str) -> str:
    """Return the path of MLflow's page that shows an experiment's runs as charts.

    Without `workflowType`, the UI opens in a mode for language models.
    """
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
    )


def _path(given: str) -> Path:
    try:
        return Path(given).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # unknown user, NUL byte, loop of links
        raise ConfigError(f"tracking URI {given!r}: not a valid path: {error}") from error


def _embedded(folder: Path, database: Path, options: str = "") -> StoreLocation:
    # SQLAlchemy reads a percent sign as an escape.
    path = str(database).replace("%", "%25")
    is_default = database == (EMBEDDED / "mlflow.db").resolve()
    return StoreLocation(f"sqlite:///{path}{options}", folder / "artifacts", database, is_default)
