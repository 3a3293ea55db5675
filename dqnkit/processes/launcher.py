"""Launchers, which start worker processes, and the launcher for this machine."""

from __future__ import annotations

import abc
import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from typing_extensions import override

from dqnkit._system import memory

Target = Callable[[Connection, str | None, int], None]
"""Main function of a worker, called with three arguments.

They are the connection to the parent, the path of the file that takes the worker's output (None to
leave the output alone), and the memory limit in bytes. See `dqnkit.workers.worker.serve`.
"""

_START_METHOD: Final = "spawn"
"""Start method of `multiprocessing`; a forked process would hang in TensorFlow's locks."""
_EXIT_SECONDS = 10.0
"""Time to wait for a process to exit after its connection has closed."""
_MIN_MEMORY = 3 * 2**29
"""Smallest memory limit of a worker in bytes; TensorFlow alone takes a third of it."""
_MEMORY_FRACTION = 1 / 3
"""Fraction of the machine's memory that all workers together may use."""


class Handle(abc.ABC):
    """A worker that was started, as its parent sees it."""

    connection: Connection
    """Connection to the worker; it closes when the worker ends."""

    @abc.abstractmethod
    def kill(self) -> None:
        """End the worker at once."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Send the worker a signal that interrupts a call which does not return."""

    @abc.abstractmethod
    def join(self, timeout: float | None = None) -> bool:
        """Wait until the worker ends; return whether it has ended.

        Args:
          timeout: Maximum number of seconds to wait; None waits without limit.
        """

    @abc.abstractmethod
    def exit_cause(self) -> str:
        """Return how the worker ended and its last output, once its connection has closed."""


class Launcher(abc.ABC):
    """A way to start workers."""

    @abc.abstractmethod
    def start(self, target: Target, number: int, workers: int) -> Handle:
        """Start a worker.

        Args:
          target: Main function of the worker.
          number: Number of the worker, unique within its pool.
          workers: Number of workers that share this machine.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release all resources, after all workers have ended."""


class LocalLauncher(Launcher):
    """Processes of this machine."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dqnkit-workers-"))

    @override
    def start(self, target: Target, number: int, workers: int) -> Handle:
        limit = memory_limit(1 / workers)
        with _single_threaded_libraries(), _sigint_blocked():
            return _Process(target, number, self._folder / f"{number}.txt", limit)

    @override
    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class _Process(Handle):
    def __init__(self, target: Target, number: int, output: Path, limit: int) -> None:
        self._output = output
        context = multiprocessing.get_context(_START_METHOD)
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(
            target=target,
            args=(child_connection, str(output), limit),
            name=f"dqnkit-worker-{number}",
        )
        self.process.start()
        child_connection.close()

    @override
    def kill(self) -> None:
        self.process.kill()

    @override
    def interrupt(self) -> None:
        if self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)

    @override
    def join(self, timeout: float | None = None) -> bool:
        self.process.join(timeout)
        return not self.process.is_alive()

    @override
    def exit_cause(self) -> str:
        self.process.join(_EXIT_SECONDS)
        code = self.process.exitcode
        cause = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        try:
            lines = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        output = f": {' '.join(lines[-3:])}" if lines else ""
        return f"its process ended with {cause}{output}"


def memory_limit(share: float) -> int:
    """Return the number of bytes that a worker may use.

    Args:
      share: Fraction of all workers' memory on this machine that this worker gets.
    """
    return max(_MIN_MEMORY, int(memory.machine_memory() * share * _MEMORY_FRACTION))


def detach_from_terminal(output: str) -> None:
    """Leave the terminal's process group, and redirect stdout and stderr to a file.

    A Ctrl-C in the terminal then reaches the parent alone, which ends its workers in order, and
    only the parent prints.

    Args:
      output: Path of the file.
    """
    os.setpgid(0, 0)
    # `LocalLauncher` starts the process with SIGINT blocked. A Ctrl-C since then has reached the
    # parent too, so it is discarded here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT, which a child inherits: a Ctrl-C must not end it before it has detached."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextlib.contextmanager
def _single_threaded_libraries() -> Iterator[None]:
    """Let the numerical libraries of a child process use one thread, unless the user sets a number.

    The libraries read these variables when they are loaded.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    missing = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
