from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from typing_extensions import override

from dqnkit.config import loading
from dqnkit.events import Event, Progress, RunAssigned, RunStatus, WorkerEvent, WorkerReady
from dqnkit.processes.interrupts import Interrupts
from dqnkit.workers import dispatcher
from dqnkit.workers.dispatcher import Jobs, run_jobs
from dqnkit.workers.orders import Task
from dqnkit.workers.pool import Worker, WorkerMessage, WorkerPool

CONFIG = loading.default_config("dispatched")
DONE = Progress(1, 1, (), 1.0)
"""An event that ends a run of `ListedJobs`."""


class IdleWorker:
    """A worker that reports progress once per run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: Task | None = None

    def assign(self, task: Task) -> None:
        self.task = task


class InstantPool:
    """A pool whose workers need one call of `receive` per run."""

    def __init__(self, size: int) -> None:
        self.workers = [IdleWorker(number) for number in range(size)]
        self.interruptions: list[bool] = []
        self.is_hanging = False

    @property
    def idle(self) -> list[IdleWorker]:
        return [worker for worker in self.workers if worker.task is None]

    @property
    def busy(self) -> list[IdleWorker]:
        return [worker for worker in self.workers if worker.task is not None]

    def receive(self, timeout: float) -> Iterator[WorkerMessage]:
        assert 0 < timeout < 1
        if self.is_hanging and True not in self.interruptions:
            return
        for worker in self.busy:
            task, worker.task = worker.task, None
            yield WorkerMessage(cast("Worker", worker), task, DONE)
        yield WorkerMessage(cast("Worker", self.workers[0]), None, WorkerReady())

    def interrupt(self, *, by_signal: bool = False) -> None:
        self.interruptions.append(by_signal)


class ListedJobs(Jobs):
    """Jobs with a list of runs; None stands for a moment when no run can be started."""

    def __init__(self, *names: str | None) -> None:
        self.names = list(names)
        self.handled: list[tuple[str, Event]] = []
        self.running = 0

    @property
    @override
    def is_done(self) -> bool:
        return not self.names and not self.running

    @override
    def next_task(self) -> Task | None:
        name = self.names.pop(0) if self.names else None
        if name is None:
            return None
        self.running += 1
        return Task(CONFIG, name)

    @override
    def handle(self, message: WorkerMessage) -> None:
        assert message.task is not None
        self.running -= 1
        self.handled.append((message.task.run_name, message.event))


def _run(pool: InstantPool, jobs: Jobs, interrupts: Interrupts | None = None) -> list[Event]:
    events: list[Event] = []
    listener: Any = events.append
    if interrupts is None:
        interrupts = Interrupts()
    run_jobs(cast("WorkerPool", pool), jobs, listener, interrupts)
    return events


def test_runs_are_assigned_to_idle_workers_until_all_are_done() -> None:
    jobs = ListedJobs("a", "b", "c")
    events = _run(InstantPool(2), jobs)
    assert jobs.handled == [("a", DONE), ("b", DONE), ("c", DONE)]
    assigned = [(e.worker, e.run_name) for e in events if isinstance(e, RunAssigned)]
    assert assigned == [(0, "a"), (1, "b"), (0, "c")]


def test_the_listener_receives_events_of_all_workers_and_jobs_those_of_their_runs() -> None:
    jobs = ListedJobs("a")
    events = _run(InstantPool(1), jobs)
    assert events == [
        RunAssigned(0, CONFIG, "a"),
        WorkerEvent(0, DONE),
        WorkerEvent(0, WorkerReady()),
    ]
    assert jobs.handled == [("a", DONE)]


def test_nothing_happens_if_there_is_nothing_to_do() -> None:
    assert _run(InstantPool(1), ListedJobs()) == []


def test_workers_stay_idle_while_no_run_can_be_started() -> None:
    jobs = ListedJobs("a", None, "b", None, "c")
    events = _run(InstantPool(2), jobs)
    names = [event.run_name for event in events if isinstance(event, RunAssigned)]
    assert names == ["a", "b", "c"]
    # The second worker is not offered a run in a round in which there was none.
    assert {event.worker for event in events if isinstance(event, RunAssigned)} == {0}


def test_after_an_interruption_running_runs_end_and_none_is_started() -> None:
    interrupts = Interrupts()
    pool = InstantPool(1)

    class Interrupted(ListedJobs):
        @override
        def next_task(self) -> Task | None:
            interrupts.request(RunStatus.KILLED)
            return super().next_task()

    jobs = Interrupted("a", "b")
    _run(pool, jobs, interrupts)
    assert pool.interruptions == [False]
    assert [name for name, _ in jobs.handled] == ["a"]
    assert jobs.names == ["b"]


def test_workers_that_do_not_obey_get_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_ORDER_SECONDS", 0.05)
    interrupts, pool = Interrupts(), InstantPool(1)
    pool.is_hanging = True

    class Interrupted(ListedJobs):
        @override
        def next_task(self) -> Task | None:
            interrupts.request(RunStatus.KILLED)
            return super().next_task()

    _run(pool, Interrupted("a"), interrupts)
    assert pool.interruptions == [False, True]


def test_an_interruption_before_the_start_starts_nothing() -> None:
    interrupts, pool, jobs = Interrupts(), InstantPool(1), ListedJobs("a")
    interrupts.request(RunStatus.KILLED)
    assert _run(pool, jobs, interrupts) == []
    assert jobs.names == ["a"]


def test_an_exception_of_jobs_is_raised() -> None:
    class Failing(ListedJobs):
        @override
        def handle(self, message: WorkerMessage) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _run(InstantPool(1), Failing("a"))
