"""The pool of workers in the parent process: starts them, assigns runs, and receives events."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, NamedTuple, Self

from dqnkit.errors import WorkerError
from dqnkit.events import (
    Event,
    RunEnded,
    RunFailed,
    RunStarted,
    WorkerDied,
    WorkerReady,
    WorkerRetired,
)
from dqnkit.processes.launcher import Handle, Launcher, LocalLauncher, Target
from dqnkit.workers.orders import Order, StopRun, Task
from dqnkit.workers.worker import serve

_CLOSE_SECONDS = 10.0
"""Time that workers may take to exit when the pool is closed."""
_MAX_STARTUP_DEATHS = 3
"""Number of processes in a row that may die before they are ready."""


class Worker:
    """A worker process and the run that it is training."""

    def __init__(self, number: int, handle: Handle) -> None:
        self.number = number
        self.handle = handle
        self.task: Task | None = None
        self.run_id: str | None = None
        self.is_ready = False
        """True while the worker waits for a run."""
        self.was_ready = False
        """True once the worker has been ready."""

    @property
    def connection(self) -> Connection:
        """Connection to the process."""
        return self.handle.connection

    def assign(self, task: Task) -> None:
        """Give an idle worker a run to train."""
        self.task, self.run_id, self.is_ready = task, None, False
        self.send(task)

    def send(self, order: Order) -> None:
        """Send an order; `receive` reports a worker that has died."""
        with contextlib.suppress(OSError):
            self.connection.send(order)

    def receive(self) -> Event:
        """Return the next event; `WorkerDied` if the process has died."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return WorkerDied(self.run_id, self.handle.exit_cause())
        if isinstance(event, WorkerReady):
            self.is_ready, self.was_ready = True, True
        elif isinstance(event, RunStarted):
            self.run_id = event.run_id
        elif isinstance(event, RunEnded | RunFailed):
            self.task = None
        return event


class WorkerMessage(NamedTuple):
    """An event from a worker."""

    worker: Worker
    task: Task | None
    """Task of the worker when it sent the event."""
    event: Event


class WorkerPool:
    """A context manager that keeps a constant number of workers running.

    Raises:
      WorkerError: If processes die one after another before they are ready.
    """

    def __init__(self, size: int, target: Target = serve, launcher: Launcher | None = None) -> None:
        """Start the processes.

        Args:
          size: Number of workers.
          target: Function that they run.
          launcher: Launcher, closed with the pool; None starts processes of this machine.
        """
        self._target = target
        self._launcher = launcher or LocalLauncher()
        self._size = size
        self._startup_deaths = 0
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
        """Workers that wait for a run."""
        return [worker for worker in self.workers if worker.is_ready]

    @property
    def busy(self) -> list[Worker]:
        """Workers that train a run."""
        return [worker for worker in self.workers if worker.task is not None]

    def receive(self, timeout: float) -> Iterator[WorkerMessage]:
        """Wait for events; yield at most one of each worker.

        A worker that has died is replaced before its event is yielded.

        Args:
          timeout: Seconds to wait for the first event.
        """
        by_connection: dict[Any, Worker] = {each.connection: each for each in self.workers}
        for connection in wait(list(by_connection), timeout):
            worker = by_connection[connection]
            task = worker.task
            event = worker.receive()
            if isinstance(event, WorkerDied | WorkerRetired):
                self._replace(worker, event)
            elif isinstance(event, WorkerReady):
                self._startup_deaths = 0
            yield WorkerMessage(worker, task, event)

    def interrupt(self, *, by_signal: bool = False) -> None:
        """Ask all runs to end as KILLED.

        Args:
          by_signal: True to send their processes a signal in place of an order.
        """
        for worker in self.busy:
            if by_signal:
                worker.handle.interrupt()
            else:
                worker.send(StopRun())

    def close(self, *, at_once: bool = False) -> None:
        """End the processes; runs that are still training are lost.

        Args:
          at_once: True to kill processes that do not exit immediately.
        """
        for worker in self.workers:
            worker.connection.close()
            if not worker.was_ready:  # it is loading TensorFlow, and would finish that first
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

    def _replace(self, worker: Worker, event: WorkerDied | WorkerRetired) -> None:
        self.workers.remove(worker)
        worker.connection.close()
        self._leaving.append(worker)  # exiting takes seconds; `close` waits for it
        if isinstance(event, WorkerDied) and not worker.was_ready:
            self._startup_deaths += 1
            if self._startup_deaths >= _MAX_STARTUP_DEATHS:
                raise WorkerError(
                    f"{_MAX_STARTUP_DEATHS} processes in a row died before they could train; "
                    f"the last one: {event.cause}. A script that calls dqnkit must do so below "
                    'if __name__ == "__main__", because workers import it'
                )
        self._start()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
