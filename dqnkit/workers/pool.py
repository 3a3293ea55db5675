"""The parent's side: starts workers, hands out runs, hears what becomes of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from dqnkit import memory
from dqnkit.errors import WorkerError
from dqnkit.workers.messages import (
    Began,
    Died,
    Ended,
    Failed,
    Interrupt,
    Interrupted,
    Message,
    Ready,
    Retired,
    Task,
    Verdict,
)
from dqnkit.workers.process import serve

_CLOSE_SECONDS = 10.0
"""How long workers may take to leave once nothing is left to do."""
_STILLBORN = 3
"""Processes in a row that die before they are ready; then there is no use in another."""


Target = Callable[[Connection, str, int], None]
_LEAST_MEMORY = 3 * 2**29
"""Bytes that a worker may hold on any machine: TensorFlow alone takes a third of them."""
_SHARE = 3
"""All workers together may hold one part in so many of the machine's memory."""


class Worker:
    """A process that trains, and what it trains now."""

    def __init__(self, number: int, folder: Path, target: Target, most_memory: int) -> None:
        self.number = number
        self.task: Task | None = None
        self.run_id: str | None = None
        self.is_ready = False
        """Whether it waits for a run, if it has none."""
        self.was_ready = False
        """Whether it came so far at all."""
        self._said = folder / f"{number}.txt"
        # Spawned, since TensorFlow survives no fork.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=target,
            args=(theirs, str(self._said), most_memory),
            name=f"dqnkit-worker-{number}",
        )
        self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        """Lets it train a run; it must be idle."""
        self.task, self.run_id, self.is_ready = task, None, False
        self.send(task)

    def send(self, order: Task | Verdict | Interrupt) -> None:
        """Sends to it; one that has died says so by itself."""
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def hear(self) -> Message:
        """What it says next; that it died, if it did."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_CLOSE_SECONDS)  # which gives it an exit code
            return Died(self.run_id, self._last_words())
        if isinstance(message, Ready):
            self.is_ready, self.was_ready = True, True
        elif isinstance(message, Began):
            self.run_id = message.run_id
        elif isinstance(message, Ended | Interrupted | Failed):
            self.task = None
        return message

    def _last_words(self) -> str:
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        try:
            lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        words = f": {' '.join(lines[-3:])}" if lines else ""
        return f"its process ended with {how}{words}"


class News(NamedTuple):
    """What a worker said."""

    worker: Worker
    task: Task | None
    """What it was training when it said it."""
    message: Message


class Pool:
    """Workers, as many as are wanted, replaced where they die. A context manager.

    Raises:
      WorkerError: Processes die one after another before they are ready.
    """

    def __init__(self, size: int, target: Target = serve) -> None:
        """Starts processes.

        Args:
          size: How many.
          target: What they run; see `dqnkit.workers.process.serve`.
        """
        self._target = target
        self._most_memory = max(_LEAST_MEMORY, memory.of_machine() // (_SHARE * size))
        self._folder = Path(tempfile.mkdtemp(prefix="dqnkit-workers-"))
        self._stillborn = 0
        self._started = 0
        self.workers: list[Worker] = []
        self._leaving: list[Worker] = []
        for _ in range(size):
            self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(at_once=kind is not None)

    @property
    def idle(self) -> list[Worker]:
        """Those that wait for a run."""
        return [worker for worker in self.workers if worker.is_ready]

    @property
    def busy(self) -> list[Worker]:
        """Those that train."""
        return [worker for worker in self.workers if worker.task is not None]

    def news(self, timeout: float) -> Iterator[News]:
        """What workers say within a time; one message of each at most.

        A worker that died is replaced before that is told.
        """
        by_connection: dict[Any, Worker] = {each.connection: each for each in self.workers}
        for connection in wait(list(by_connection), timeout):
            worker = by_connection[connection]
            task = worker.task
            message = worker.hear()
            if isinstance(message, Died | Retired):
                self._replace(worker, message)
            elif isinstance(message, Ready):
                self._stillborn = 0
            yield News(worker, task, message)

    def interrupt(self) -> None:
        """Asks all runs to end as KILLED."""
        for worker in self.busy:
            worker.send(Interrupt())

    def close(self, *, at_once: bool = False) -> None:
        """Ends the processes; one that trains still loses its run.

        Args:
          at_once: Do not wait for those that are asked to leave.
        """
        for worker in self.workers:
            worker.connection.close()
            if not worker.was_ready:  # it would load TensorFlow to the end first
                worker.process.kill()
        deadline = time.monotonic() + (0.0 if at_once else _CLOSE_SECONDS)
        for worker in [*self.workers, *self._leaving]:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
        self.workers, self._leaving = [], []
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        with _one_thread_each(), _interrupts_held_back():
            worker = Worker(self._started, self._folder, self._target, self._most_memory)
        self.workers.append(worker)
        self._started += 1

    def _replace(self, worker: Worker, message: Died | Retired) -> None:
        self.workers.remove(worker)
        worker.connection.close()
        self._leaving.append(worker)  # which takes it seconds, and nobody waits for it
        if isinstance(message, Died) and not worker.was_ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise WorkerError(
                    f"{_STILLBORN} processes in a row died before they could train; of the last, "
                    f"{message.cause}. A script that calls dqnkit must do so below "
                    'if __name__ == "__main__", since workers import it'
                )
        self._start()


def default_size() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
