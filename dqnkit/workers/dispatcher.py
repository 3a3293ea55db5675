"""Keeps workers busy until there is nothing left to do."""

from __future__ import annotations

from typing import Protocol

from dqnkit.processes.interrupts import Interrupts
from dqnkit.workers.messages import Message, Task
from dqnkit.workers.pool import WorkerMessage, WorkerPool

_TICK_SECONDS = 0.25
"""How soon a signal is heard while no worker says anything."""


class Jobs(Protocol):
    """What there is to do."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left, nor will be."""

    def next_task(self) -> Task | None:
        """The next run; None if none is to be begun now."""

    def heard(self, news: WorkerMessage) -> None:
        """A worker that trains one of these runs said something."""


class WorkReporter(Protocol):
    """Hears what workers do."""

    def given(self, worker: int, task: Task) -> None:
        """A worker begins a run."""

    def heard(self, worker: int, message: Message) -> None:
        """A worker said something."""


def run_jobs(pool: WorkerPool, jobs: Jobs, reporter: WorkReporter, interrupts: Interrupts) -> None:
    """Hands out runs until all are done.

    After an interruption none is begun, and those that train are asked to end.

    Raises:
      WorkerError: Workers cannot be started.
      Anything that `jobs` raises; runs that train are left alone then.
    """
    asked = False
    while not jobs.is_done:
        if interrupts and not asked:
            pool.interrupt()
            asked = True
        if interrupts and not pool.busy:
            return
        if not interrupts:
            _hand_out(pool, jobs, reporter)
        for news in pool.news(_TICK_SECONDS):
            reporter.heard(news.worker.number, news.message)
            if news.task is not None:
                jobs.heard(news)


def _hand_out(pool: WorkerPool, jobs: Jobs, reporter: WorkReporter) -> None:
    for worker in pool.idle:
        task = jobs.next_task()
        if task is None:
            return
        worker.give(task)
        reporter.given(worker.number, task)
