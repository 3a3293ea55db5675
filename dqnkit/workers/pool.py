"""The parent's side: starts workers, hands out runs, hears what becomes of them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, NamedTuple, Self

from dqnkit.errors import WorkerError
from dqnkit.processes.launcher import Handle, Launcher, LocalLauncher, Target
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
from dqnkit.workers.worker import serve

_CLOSE_SECONDS = 10.0
"""How long workers may take to leave once nothing is left to do."""
_STILLBORN = 3
"""Processes in a row that die before they are ready; then there is no use in another."""


class Worker:
    """A process that trains, and what it trains now."""

    def __init__(self, number: int, handle: Handle) -> None:
        self.number = number
        self.handle = handle
        self.task: Task | None = None
        self.run_id: str | None = None
        self.is_ready = False
        """Whether it waits for a run, if it has none."""
        self.was_ready = False
        """Whether it came so far at all."""

    @property
    def connection(self) -> Connection:
        """To it."""
        return self.handle.connection

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
            return Died(self.run_id, self.handle.last_words())
        if isinstance(message, Ready):
            self.is_ready, self.was_ready = True, True
        elif isinstance(message, Began):
            self.run_id = message.run_id
        elif isinstance(message, Ended | Interrupted | Failed):
            self.task = None
        return message


class WorkerMessage(NamedTuple):
    """What a worker said."""

    worker: Worker
    task: Task | None
    """What it was training when it said it."""
    message: Message


class WorkerPool:
    """Workers, as many as are wanted, replaced where they die. A context manager.

    Raises:
      WorkerError: Processes die one after another before they are ready.
    """

    def __init__(self, size: int, target: Target = serve, launcher: Launcher | None = None) -> None:
        """Starts processes.

        Args:
          size: How many.
          target: What they run.
          launcher: Starts them; closed with the pool. None takes processes of this machine.
        """
        self._target = target
        self._launcher = launcher or LocalLauncher()
        self._size = size
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

    def news(self, timeout: float) -> Iterator[WorkerMessage]:
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
            yield WorkerMessage(worker, task, message)

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
                worker.handle.kill()
        deadline = time.monotonic() + (0.0 if at_once else _CLOSE_SECONDS)
        for worker in [*self.workers, *self._leaving]:
            if not worker.handle.join(max(0.0, deadline - time.monotonic())):
                worker.handle.kill()
            worker.handle.join()
        self.workers, self._leaving = [], []
        self._launcher.close()

    def _start(self) -> None:
        handle = self._launcher.start(self._target, self._started, self._size)
        self.workers.append(Worker(self._started, handle))
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
