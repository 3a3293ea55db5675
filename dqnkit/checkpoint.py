"""Named arrays in a file: whole or not at all, and never unpickled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dqnkit.errors import ConfigError


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays under a temporary name, syncs, and renames over `path`."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> dict[str, np.ndarray]:
    """Reads what `save` wrote.

    Raises:
      ConfigError: There is no such file, or it is not a whole checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ConfigError(f"{path}: is not a checkpoint of dqnkit: {error}") from error
    except Exception as error:  # zipfile raises classes of its own for each way to be torn
        raise ConfigError(f"{path}: the checkpoint is torn: {error}") from error
