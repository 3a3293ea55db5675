"""Addresses in an embedded store whose folder was moved or copied.

MLflow records the absolute address of every artifact. A store that was moved would be read at the
new place and written at the old one, and a copy would write into its original.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dqnkit.tracking.location import StoreLocation

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's database with addresses of artifacts."""


def follow_folder(store: StoreLocation) -> None:
    """Let the addresses in an embedded store lead into its own folder.

    The addresses of runs whose artifacts did not come along are left alone. So is a store that
    cannot be written: what reads artifacts looks beside the database first.
    """
    if store.database is None or store.artifacts is None:
        return
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(store.database)) as database,
        database,
    ):
        _adopt_default(database, store.artifacts)
        for old in _moved_experiments(database, store.artifacts):
            _redirect(database, old, store.artifacts / _folder(old).name)


def _adopt_default(database: sqlite3.Connection, artifacts: Path) -> None:
    """Give MLflow's own experiment an address like the others, unless it has runs.

    MLflow makes it with the working directory of that moment.
    """
    database.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0 AND "
        "artifact_location NOT LIKE 'file:%' AND "
        "NOT EXISTS (SELECT 1 FROM runs WHERE runs.experiment_id = 0)",
        ((artifacts / "Default").as_uri(),),
    )


def _folder(address: str) -> Path:
    return Path(unquote(urlsplit(address).path))


def _moved_experiments(database: sqlite3.Connection, artifacts: Path) -> list[str]:
    """Return the addresses of the experiments that dqnkit made in another folder."""
    rows = database.execute("SELECT artifact_location FROM experiments").fetchall()
    found = []
    for (address,) in rows:
        root = _folder(address).parent
        is_own_form = address.startswith("file:") and root.name == artifacts.name
        # A folder that is mounted at two places is one and the same.
        if is_own_form and root != artifacts and not _is_same(root, artifacts):
            found.append(address)
    return found


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _redirect(database: sqlite3.Connection, old: str, new: Path) -> None:
    """Replace the address of an experiment, and those below it of what did not stay behind."""
    database.execute(
        "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
        (new.as_uri(), old),
    )
    for table, column in _COLUMNS[1:]:
        rows = database.execute(
            f"SELECT DISTINCT {column} FROM {table} WHERE substr({column}, 1, ?) = ?",
            (len(old) + 1, f"{old}/"),
        ).fetchall()
        for (address,) in rows:
            rest = unquote(address[len(old) + 1 :])
            first = Path(rest).parts[0]
            if (new / first).is_dir() or not (_folder(old) / first).exists():
                database.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {column} = ?",
                    ((new / rest).as_uri(), address),
                )
