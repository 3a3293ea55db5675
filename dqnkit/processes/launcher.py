"""How a worker is started: as a process of this machine, unless somebody else starts it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from dqnkit._system import memory

Target = Callable[[Connection, str | None, int], None]
"""What a worker runs; see `dqnkit.workers.worker.serve`."""

_WAIT_SECONDS = 10.0
_LEAST_MEMORY = 3 * 2**29
"""Bytes that a worker may hold on any machine: TensorFlow alone takes a third of them."""
_SHARE = 3
"""All workers together may hold one part in so many of a machine's memory."""


class Handle(Protocol):
    """A worker that was started, from the parent's side."""

    connection: Connection
    """To it; ends when it does."""

    def kill(self) -> None:
        """Ends it without asking."""

    def join(self, timeout: float | None = None) -> bool:
        """Waits for its end; whether that has come."""

    def last_words(self) -> str:
        """How it ended, once its connection has."""


class Launcher(Protocol):
    """Starts workers."""

    def start(self, target: Target, number: int, workers: int) -> Handle:
        """Starts one.

        Args:
          target: What it runs.
          number: Of the worker.
          workers: That share the machine, where that is this one.
        """

    def close(self) -> None:
        """Leaves nothing behind, when all workers have ended."""


class LocalLauncher:
    """Processes of this machine (`Launcher`)."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dqnkit-workers-"))

    def start(self, target: Target, number: int, workers: int) -> Handle:
        """See `Launcher`."""
        most_memory = largest(1 / workers)
        with _one_thread_each(), _interrupts_held_back():
            return _Process(target, number, self._folder / f"{number}.txt", most_memory)

    def close(self) -> None:
        """See `Launcher`."""
        shutil.rmtree(self._folder, ignore_errors=True)


class _Process:
    """A process of this machine (`Handle`)."""

    def __init__(self, target: Target, number: int, said: Path, most_memory: int) -> None:
        self._said = said
        # Spawned, since TensorFlow survives no fork.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=target,
            args=(theirs, str(said), most_memory),
            name=f"dqnkit-worker-{number}",
        )
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        """See `Handle`."""
        self.process.kill()

    def join(self, timeout: float | None = None) -> bool:
        """See `Handle`."""
        self.process.join(timeout)
        return not self.process.is_alive()

    def last_words(self) -> str:
        """See `Handle`."""
        self.process.join(_WAIT_SECONDS)  # which gives it an exit code
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        try:
            lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        words = f": {' '.join(lines[-3:])}" if lines else ""
        return f"its process ended with {how}{words}"


def largest(share: float) -> int:
    """Bytes that a worker may hold.

    Args:
      share: Of the machine, that is the worker's.
    """
    return max(_LEAST_MEMORY, int(memory.machine_memory() * share / _SHARE))


def detach_from_terminal(said: str) -> None:
    """A Ctrl-C is for the parent, which tells us; and nobody but the parent prints."""
    os.setpgid(0, 0)
    # One that came while the process began was held back (see `LocalLauncher`): the parent has it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    file = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Until a process has left the terminal's group, a Ctrl-C there would end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """NumPy's libraries take the number of their threads from the environment, when loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    missing = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
