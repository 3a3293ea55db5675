"""Where runs are kept: the embedded store under `mlruns/`, or an MLflow server."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dqnkit.errors import ConfigError

EMBEDDED = Path("mlruns")
"""Folder of the default store, in the working directory."""


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store."""

    uri: str
    """As MLflow takes it."""
    artifacts: Path | None
    """Folder for artifacts; None leaves them to the server."""

    @property
    def ui_command(self) -> str | None:
        """The command that shows an embedded store; None if a server shows itself."""
        if self.uri.startswith(("http://", "https://")):
            return None
        return f"mlflow ui --backend-store-uri {self.uri}"

    @property
    def ui_address(self) -> str:
        """Where the UI answers once it runs."""
        return self.uri.rstrip("/") if self.ui_command is None else "http://127.0.0.1:5000"


def resolve(tracking_uri: str | None = None) -> Store:
    """The store of a `--tracking-uri`, else of MLFLOW_TRACKING_URI, else the embedded one.

    A folder holds an embedded store of its own: a database and the artifacts.

    Raises:
      ConfigError: The URI is of no kind that is known here, or its folder cannot be written.
    """
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or str(EMBEDDED)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", given)
    if scheme is None or scheme[1] == "file":
        folder = Path(re.sub(r"^file:(//)?", "", given)).expanduser().resolve()
        return _embedded(folder, folder / "mlflow.db")
    if scheme[1] in {"http", "https"}:
        return Store(given, artifacts=None)
    if scheme[1] == "sqlite":
        database = Path(given.removeprefix("sqlite:///")).resolve()
        return _embedded(database.parent, database)
    if scheme[1].partition("+")[0] in {"postgresql", "mysql", "mssql"}:
        return Store(given, artifacts=EMBEDDED.resolve() / "artifacts")
    raise ConfigError(
        f"tracking URI {given!r}: {scheme[1]!r} is no kind of store known here; "
        "give http(s)://…, sqlite:///…, postgresql://… or a folder"
    )


def _embedded(folder: Path, database: Path) -> Store:
    artifacts = folder / "artifacts"
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        with database.open("ab"):
            pass
    except OSError as error:
        raise ConfigError(
            f"the tracking store {database} cannot be written: {error.strerror}; run in a folder "
            "that can be, or name another store by --tracking-uri"
        ) from error
    return Store(f"sqlite:///{database}", artifacts)
