"""Distribution of runs to a pool of workers."""

from __future__ import annotations

import abc
import math
import time

from dqnkit.events import Listener, RunAssigned, WorkerEvent
from dqnkit.processes.interrupts import Interrupts
from dqnkit.workers.orders import Task
from dqnkit.workers.pool import WorkerMessage, WorkerPool

_TICK_SECONDS = 0.25
"""Longest time after which a signal is noticed while no worker sends anything."""
_ORDER_SECONDS = 2.0
"""Time for workers to obey. They read an order between two events, and so never in an environment
that hangs."""


class Jobs(abc.ABC):
    """A source of runs to train."""

    @property
    @abc.abstractmethod
    def is_done(self) -> bool:
        """True if no run is left, and none will be."""

    @abc.abstractmethod
    def next_task(self) -> Task | None:
        """Return the next run; None if none can be started now."""

    @abc.abstractmethod
    def handle(self, message: WorkerMessage) -> None:
        """Handle an event of a worker that trains one of these runs."""


def run_jobs(pool: WorkerPool, jobs: Jobs, listener: Listener, interrupts: Interrupts) -> None:
    """Assign runs to idle workers until all are done.

    After an interruption no run is started, and those in training are told to end.

    Args:
      pool: Workers that train the runs.
      jobs: Source of the runs, which handles the events of their workers.
      listener: Receives `RunAssigned` and `WorkerEvent`.
      interrupts: Request to end early.

    Raises:
      WorkerError: If workers cannot be started.
      Exception: Any exception of `jobs` or of the listener; runs in training continue until the
        pool is closed.
    """
    interrupted_at: float | None = None
    while not jobs.is_done:
        if interrupts and interrupted_at is None:
            pool.interrupt()
            interrupted_at = time.monotonic()
        if interrupted_at is not None and time.monotonic() - interrupted_at > _ORDER_SECONDS:
            pool.interrupt(by_signal=True)
            interrupted_at = math.inf  # once
        if interrupts and not pool.busy:
            return
        if not interrupts:
            _assign_runs(pool, jobs, listener)
        for message in pool.receive(_TICK_SECONDS):
            listener(WorkerEvent(message.worker.number, message.event))
            if message.task is not None:
                jobs.handle(message)


def _assign_runs(pool: WorkerPool, jobs: Jobs, listener: Listener) -> None:
    for worker in pool.idle:
        task = jobs.next_task()
        if task is None:
            return
        worker.assign(task)
        listener(RunAssigned(worker.number, task.config, task.run_name))
