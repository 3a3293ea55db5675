"""The worker in a thread of this process, with training functions made for each test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dqnkit._system import memory
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import (
    ConfigError,
    EnvironmentFailedError,
    InterruptedRun,
    TrackingError,
    TrainingDivergedError,
)
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.events import (
    Evaluated,
    Event,
    Listener,
    Progress,
    RunEnded,
    RunFailed,
    RunPreparing,
    RunStarted,
    RunStatus,
    Warned,
    WorkerReady,
    WorkerRetired,
)
from dqnkit.processes.interrupts import Interrupts
from dqnkit.tracking.tracker import ParentRun
from dqnkit.workers import worker
from dqnkit.workers.orders import Order, PrunerDecision, StopRun, Task
from tests.fake_training import make_evaluation, make_result

CONFIG = loading.default_config("worked", ["training.num_iterations=40"])
TASK = Task(CONFIG, "a-run", ParentRun("its-parent"), "a-store")
ENDED = RunEnded(make_result(CONFIG, "a-run", [make_evaluation(10, 1.0)], RunStatus.KILLED))

Train = Callable[[Listener, Interrupts], None]


class ServedWorker:
    """The pool's side of a worker."""

    def __init__(self, connection: Connection, thread: threading.Thread) -> None:
        self.connection = connection
        self._thread = thread

    def send(self, *orders: Order) -> None:
        for order in orders:
            self.connection.send(order)

    def receive(self) -> Event:
        assert self.connection.poll(10.0)
        event: Event = self.connection.recv()
        return event

    def receive_run(self) -> list[Event]:
        """Return the events until the worker is ready for the next run."""
        events: list[Event] = []
        while not isinstance(event := self.receive(), WorkerReady):
            events.append(event)
        return events

    def has_ended(self) -> bool:
        self._thread.join(10.0)
        return not self._thread.is_alive()


@pytest.fixture
def collector_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of the garbage collector, which takes seconds in a process of hundreds of tests."""
    calls: list[str] = []
    collector = SimpleNamespace(
        freeze=lambda: calls.append("freeze"), collect=lambda: calls.append("collect")
    )
    monkeypatch.setattr(worker, "gc", collector)
    return calls


@pytest.fixture
def serve(
    monkeypatch: pytest.MonkeyPatch, collector_calls: list[str]
) -> Iterator[Callable[[Train], ServedWorker]]:
    """A function that starts a worker whose runs call a given function."""
    tensorflow = "dqnkit._system.tensorflow"
    monkeypatch.setitem(sys.modules, tensorflow, ModuleType(tensorflow))
    connections: list[Connection] = []

    def start(train: Train, most_memory: int = sys.maxsize) -> ServedWorker:
        def call(
            config: Config,
            *,
            tracking_uri: str | None,
            listener: Listener,
            run_name: str,
            parent: ParentRun,
            interrupts: Interrupts,
        ) -> None:
            assert (config, tracking_uri) == (CONFIG, "a-store")
            assert (run_name, parent) == ("a-run", ParentRun("its-parent"))
            train(listener, interrupts)

        monkeypatch.setattr(worker, "train", call)
        ours, theirs = Pipe()
        connections.append(ours)
        thread = threading.Thread(target=worker.serve, args=(theirs, None, most_memory))
        thread.start()
        return ServedWorker(ours, thread)

    yield start
    for connection in connections:
        connection.close()


Serve = Callable[..., ServedWorker]


def _do_nothing(listener: Listener, interrupts: Interrupts) -> None:
    """Train a run without events."""


def _evaluated(iteration: int) -> Evaluated:
    evaluation = Evaluation(returns=(1.0,), lengths=(1,), iteration=iteration, env_steps=iteration)
    return Evaluated(evaluation, evaluation, evaluation)


def test_the_events_of_a_run_are_sent_unchanged(serve: Serve) -> None:
    events: list[Event] = [
        RunStarted("its-id", 0.5, 0),
        Warned("a warning"),
        Progress(10, 20, (), 1_000.0),
        _evaluated(10),
    ]

    def train(listener: Listener, interrupts: Interrupts) -> None:
        listener(RunPreparing(CONFIG, "a-run"))  # the pool has assigned the run
        for event in events:
            listener(event)

    served = serve(train)
    assert served.receive() == WorkerReady()
    for _ in range(2):
        served.send(TASK)
        assert served.receive_run() == events


def test_what_a_run_leaves_is_collected_before_the_next(
    serve: Serve, collector_calls: list[str]
) -> None:
    served = serve(_do_nothing)
    served.receive()
    for _ in range(2):
        served.send(TASK)
        served.receive_run()
    assert collector_calls == ["freeze", "collect", "collect"]


def test_orders_for_an_earlier_run_are_skipped(serve: Serve) -> None:
    statuses: list[RunStatus | None] = []

    def train(listener: Listener, interrupts: Interrupts) -> None:
        listener(Progress(1, 1, (), 1.0))
        statuses.append(interrupts.status)

    served = serve(train)
    served.receive()
    served.send(PrunerDecision(False), StopRun(), TASK)
    assert served.receive_run() == [Progress(1, 1, (), 1.0)]
    assert statuses == [None]


@pytest.mark.parametrize(
    ("error", "cause", "retryable"),
    [
        (ConfigError("a.b=1: too small"), "a.b=1: too small", False),
        (TrainingDivergedError("the loss became nan"), "the loss became nan", False),
        (TrackingError("the store\n  does not answer"), "the store does not answer", True),
        (EnvironmentFailedError("in step"), "in step", True),
        (OSError(28, "No space left"), "OSError: [Errno 28] No space left", True),
        (MemoryError(), "MemoryError:", True),
        (TrackingError("postgresql://me:secret@host/x"), "postgresql://host/x", True),
    ],
)
def test_an_exception_is_sent_as_a_failure(
    serve: Serve, error: Exception, cause: str, retryable: bool
) -> None:
    def train(listener: Listener, interrupts: Interrupts) -> None:
        listener(RunStarted("its-id", 0.5, 0))
        raise error

    served = serve(train)
    served.receive()
    served.send(TASK)
    assert served.receive_run()[1:] == [RunFailed("its-id", cause, retryable)]


def test_a_run_that_fails_before_it_starts_has_no_id(serve: Serve) -> None:
    def train(listener: Listener, interrupts: Interrupts) -> None:
        raise ConfigError("wrong")

    served = serve(train)
    served.receive()
    served.send(TASK)
    assert served.receive_run() == [RunFailed(None, "wrong", retryable=False)]


def test_an_interruption_is_not_a_failure(serve: Serve) -> None:
    def train(listener: Listener, interrupts: Interrupts) -> None:
        listener(ENDED)
        raise InterruptedRun("interrupted by SIGTERM")

    served = serve(train)
    served.receive()
    served.send(TASK)
    assert served.receive_run() == [ENDED]


@pytest.mark.parametrize("is_asked", [True, False])
def test_an_interruption_is_told_as_such_only_if_somebody_asked_for_it(
    serve: Serve, is_asked: bool
) -> None:
    """An environment may raise KeyboardInterrupt by itself, whenever its run is tried again."""

    def train(listener: Listener, interrupts: Interrupts) -> None:
        if is_asked:
            interrupts.request(RunStatus.KILLED)
        raise InterruptedRun("interrupted after 0 iterations")

    served = serve(train)
    served.receive()
    served.send(TASK)
    (failed,) = served.receive_run()
    assert failed == RunFailed(None, "interrupted after 0 iterations", is_asked, is_asked)


@pytest.mark.parametrize(
    ("order", "status"),
    [
        (PrunerDecision(True), None),
        (PrunerDecision(False), RunStatus.FINISHED),
        (StopRun(), RunStatus.KILLED),
    ],
)
def test_a_run_waits_for_a_verdict(serve: Serve, order: Order, status: RunStatus | None) -> None:
    statuses: list[RunStatus | None] = []
    returned = threading.Event()

    def train(listener: Listener, interrupts: Interrupts) -> None:
        listener(_evaluated(0))
        listener(_evaluated(10))
        statuses.append(interrupts.status)
        returned.set()
        listener(_evaluated(40))

    served = serve(train)
    served.receive()
    served.send(Task(**{**vars(TASK), "waits_for_pruner": True}))
    assert [served.receive(), served.receive()] == [_evaluated(0), _evaluated(10)]
    assert not returned.wait(0.2)
    served.send(order)
    assert served.receive_run() == [_evaluated(40)]
    assert statuses == [status]


def test_an_interrupt_is_stronger_than_a_verdict(serve: Serve) -> None:
    statuses: list[RunStatus | None] = []
    interrupted = threading.Event()

    def train(listener: Listener, interrupts: Interrupts) -> None:
        interrupted.wait(10.0)
        listener(_evaluated(10))
        statuses.append(interrupts.status)
        listener(_evaluated(20))  # an interrupted run waits for no decision
        statuses.append(interrupts.status)

    served = serve(train)
    served.receive()
    served.send(Task(**{**vars(TASK), "waits_for_pruner": True}), StopRun(), PrunerDecision(False))
    interrupted.set()
    assert served.receive_run() == [_evaluated(10), _evaluated(20)]
    assert statuses == [RunStatus.KILLED, RunStatus.KILLED]


def test_a_run_ends_as_killed_when_the_pool_is_gone(serve: Serve) -> None:
    statuses: list[RunStatus | None] = []
    closed = threading.Event()

    def train(listener: Listener, interrupts: Interrupts) -> None:
        closed.wait(10.0)
        listener(Progress(1, 1, (), 1.0))
        listener(Progress(2, 2, (), 1.0))
        statuses.append(interrupts.status)

    served = serve(train)
    served.receive()
    served.send(TASK)
    served.connection.close()
    closed.set()
    assert served.has_ended()
    assert statuses == [RunStatus.KILLED]


def test_an_idle_worker_ends_when_its_connection_closes(serve: Serve) -> None:
    served = serve(_do_nothing)
    served.receive()
    served.connection.close()
    assert served.has_ended()


def test_a_worker_retires_once_it_holds_too_much_memory(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([10, 100, 101])
    monkeypatch.setattr(memory, "process_memory", lambda: next(sizes))
    served = serve(_do_nothing, most_memory=100)
    for _ in range(2):
        assert served.receive() == WorkerReady()
        served.send(TASK)
    assert served.receive() == WorkerRetired()
    assert served.has_ended()


def test_output_goes_to_the_given_file(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[str] = []
    monkeypatch.setattr(worker, "detach_from_terminal", files.append)
    ours, theirs = Pipe()
    arguments: Any = (theirs, str(Path("output.txt")), -1)
    worker.serve(*arguments)
    assert files == ["output.txt"]
    assert ours.recv() == WorkerRetired()
