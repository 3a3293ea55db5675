"""Files of named arrays: written atomically, verified when read, and never unpickled."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from dqnkit._system.files import replace_atomically
from dqnkit.errors import CheckpointError

Arrays = dict[str, np.ndarray]
"""Arrays by name, as a file holds them."""

_SEAL = b"sha256 "
_SEAL_BYTES = len(_SEAL) + 2 * hashlib.sha256().digest_size
_CHUNK_BYTES = 1 << 20
# Level 1 halves CartPole's replay and takes two thirds off MinAtar's (benchmarks/checkpoints.py).
_COMPRESSION_LEVEL = 1


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a file, atomically and synced to the disk.

    The file is NumPy's compressed `.npz`, which `numpy.load` reads as well, followed by the
    SHA-256 digest of all its bytes: the checksums of a zip file do not cover its directory.

    Raises:
      OSError: If the file cannot be written; the file at `path` stays as it was.
    """
    with replace_atomically(path, sync=True) as partial, partial.open("w+b") as file:
        _write_archive(file, arrays)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(_SEAL + digest.encode())


def load_arrays(path: Path) -> Arrays:
    """Read a file of `save_arrays`.

    Raises:
      CheckpointError: If the file is missing, or is not as it was written.
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


def _write_archive(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    level = _COMPRESSION_LEVEL
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _check_seal(path: Path, file: IO[bytes]) -> None:
    remaining = path.stat().st_size - _SEAL_BYTES
    digest = hashlib.sha256()
    while remaining > 0 and (chunk := file.read(min(remaining, _CHUNK_BYTES))):
        digest.update(chunk)
        remaining -= len(chunk)
    if remaining != 0 or file.read() != _SEAL + digest.hexdigest().encode():
        raise CheckpointError(f"{path}: is not a checkpoint of dqnkit, or is truncated or damaged")
