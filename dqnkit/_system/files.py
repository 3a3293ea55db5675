"""Atomic writes, locks of files, and the working directory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, NamedTuple


@contextlib.contextmanager
def replace_atomically(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` at the end.

    The temporary path has the suffix of `path`, and no other call gets the same one. If the body
    raises, the temporary file is removed and `path` stays as it was.

    Args:
      path: Path of the file to write. The folder must exist.
      sync: True to write file and folder through to the disk, so that the new file survives a loss
        of power.

    Raises:
      OSError: If the file cannot be synced or renamed.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        if sync:
            _sync(partial)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if sync:
        with contextlib.suppress(OSError):  # not every file system can sync a folder
            _sync(path.parent)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    No other process may be writing into the folder.

    Raises:
      OSError: If a file cannot be removed.
    """
    for path in folder.glob(".*.partial*"):
        path.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 file that other processes see complete or not at all.

    Raises:
      OSError: If the file cannot be written; the file at `path` stays as it was.
    """
    with replace_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def file_lock(path: Path, *, blocking: bool = True) -> Iterator[None]:
    """Hold an exclusive lock, which the operating system releases when the process ends.

    The lock excludes other processes of this host and other calls in this process. The file is
    created if it is missing and stays in place. The holder may remove it: a process that waited
    for the removed file then locks a new one.

    Args:
      path: Path of the file to lock. The folder must exist.
      blocking: True to wait for the current holder.

    Raises:
      BlockingIOError: If `blocking` is False and the file is locked, or its holder has just
        removed it.
      OSError: If the file cannot be created.
    """
    import fcntl  # POSIX only

    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            if _is_at(path, file):
                yield
                return
        if not blocking:
            raise BlockingIOError(f"{path} was removed by the process that had locked it")


class _Kept(NamedTuple):
    """A working directory to return to."""

    folder: Path
    starts: dict[str, Path]
    """Folders of `start_in_first_folder`, by key."""


_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


@contextlib.contextmanager
def kept_working_directory() -> Iterator[None]:
    """Return to the working directory at the end: code of environments may change it."""
    try:
        before = Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        yield
        return
    token = _kept.set(_Kept(before, {}))
    try:
        yield
    finally:
        _kept.reset(token)
        with contextlib.suppress(OSError):
            os.chdir(before)


def start_in_first_folder(key: str) -> None:
    """Change into the folder in which this was called first with a key, where folders are kept.

    Instances of an environment then all begin in the same folder, whatever earlier ones did.
    """
    kept = _kept.get()
    if kept is not None:
        os.chdir(kept.starts.setdefault(key, Path.cwd()))


def kept_folder() -> Path | None:
    """Return the folder to which `kept_working_directory` returns; None outside of it."""
    kept = _kept.get()
    return kept.folder if kept else None


def _is_at(path: Path, file: IO[str]) -> bool:
    """Return whether `path` still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
