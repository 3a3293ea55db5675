"""Named arrays in files: whole or not at all, checked when read, and never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from dqnkit.errors import CheckpointError

SUFFIX = ".npz"
_NAME = re.compile(r"iteration-(\d+)\.npz")
_SEAL = b"sha256 "
_PIECE = 1 << 20
_SEAL_BYTES = len(_SEAL) + 2 * hashlib.sha256().digest_size
# Level 1 halves CartPole's replay and takes two thirds off MinAtar's (benchmarks/checkpoints.py).
_COMPRESSION_LEVEL = 1


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under a temporary name, syncs, and renames over `path`.

    The file is NumPy's compressed `.npz`, which `numpy.load` reads too. Behind it stands the
    SHA-256 of all that comes before, since a zip file's own sums leave its tables unguarded.

    Raises:
      OSError: It cannot be written; what was at `path` is left as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w+b") as file:
            _write_archive(file, arrays)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(_SEAL + digest.encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `save` wrote.

    Raises:
      CheckpointError: There is no such file, or it is not what was written.
    """
    try:
        with path.open("rb") as file:
            _check_seal(path, file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: is not a checkpoint of dqnkit: {error}") from error


@dataclass(frozen=True)
class Written:
    """What a checkpoint cost."""

    path: Path
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that is whole."""

    path: Path
    arrays: dict[str, np.ndarray]


class CheckpointFolder:
    """The checkpoints of one run, of which the newest few are kept."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder = folder
        self._keep = keep

    def add(self, iteration: int, arrays: Mapping[str, np.ndarray]) -> Written:
        """Writes a checkpoint, then removes those that are too old.

        Raises:
          OSError: It cannot be written; those before it are left as they were.
        """
        start = time.perf_counter()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"iteration-{iteration:012d}{SUFFIX}"
        save_arrays(path, arrays)
        paths = self._paths()
        # Newer ones are damaged, or the run would have gone on from them.
        here = paths.index(path)
        for other in paths[:here] + paths[here + self._keep :]:
            other.unlink(missing_ok=True)
        return Written(path, time.perf_counter() - start, path.stat().st_size)

    def newest(self) -> tuple[Found | None, list[str]]:
        """The newest that is whole, if any is, and what is wrong with those that are newer."""
        damaged: list[str] = []
        for path in self._paths():
            try:
                return Found(path, load_arrays(path)), damaged
            except CheckpointError as error:
                damaged.append(str(error))
        return None, damaged

    def copy_newest(self, path: Path) -> bool:
        """Copies the newest that is whole; False if there is none.

        Raises:
          OSError: There is no room for it.
        """
        found, _ = self.newest()
        if found is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.path, path)
        return True

    def _paths(self) -> list[Path]:
        """All, newest first."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted((path for path in found if _NAME.fullmatch(path.name)), reverse=True)


def _write_archive(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    level = _COMPRESSION_LEVEL
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _check_seal(path: Path, file: IO[bytes]) -> None:
    left = path.stat().st_size - _SEAL_BYTES
    digest = hashlib.sha256()
    while left > 0 and (piece := file.read(min(left, _PIECE))):
        digest.update(piece)
        left -= len(piece)
    if left != 0 or file.read() != _SEAL + digest.hexdigest().encode():
        raise CheckpointError(f"{path}: is not a checkpoint of dqnkit, or a torn or damaged one")


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a loss of power, where folders can be synced."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
