from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import WorkerError
from dqnkit.events import (
    Evaluated,
    Event,
    RunEnded,
    RunFailed,
    RunStarted,
    RunStatus,
    WorkerDied,
    WorkerRetired,
)
from dqnkit.workers.orders import PrunerDecision, Task
from dqnkit.workers.pool import Worker, WorkerPool, available_cores
from tests import fake_training
from tests.conftest import ROOT


def _config(*assignments: str) -> Config:
    return loading.default_config(
        "pooled",
        [
            "training.num_iterations=40",
            "evaluation.eval_interval=10",
            "tracking.enabled=false",
            *assignments,
        ],
    )


@pytest.fixture(autouse=True)
def _forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_training.install(monkeypatch)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1, fake_training.serve) as started:
        yield started


def _idle(pool: WorkerPool) -> Worker:
    while not pool.idle:
        list(pool.receive(10.0))
    return pool.idle[0]


def _train(
    pool: WorkerPool, task: Task, answer: Callable[[Evaluated], bool] | None = None
) -> list[Event]:
    """Let a worker train a run; return all of its events."""
    _idle(pool).assign(task)
    events: list[Event] = []
    while not (events and isinstance(events[-1], RunEnded | RunFailed | WorkerDied)):
        for worker, assigned, event in pool.receive(10.0):
            assert assigned is task
            events.append(event)
            if isinstance(event, Evaluated) and task.awaits_decision(event.evaluation):
                assert answer is not None
                worker.send(PrunerDecision(answer(event)))
    return events


def _evaluated(events: list[Event]) -> list[int]:
    return [each.evaluation.iteration for each in events if isinstance(each, Evaluated)]


def test_a_worker_sends_the_events_of_a_run_and_takes_the_next(pool: WorkerPool) -> None:
    for rate in (1e-3, 1e-2):
        config = _config(f"optimizer.learning_rate={rate}")
        events = _train(pool, Task(config, "a-run"))
        assert isinstance(events[0], RunStarted)
        assert _evaluated(events) == [0, 10, 20, 30, 40]
        ended = events[-1]
        assert isinstance(ended, RunEnded)
        assert ended.result.status is RunStatus.FINISHED
        assert ended.result.final.summary.mean == pytest.approx(fake_training.score(config))
    assert len(pool.workers) == 1


def test_a_run_waits_for_verdicts_and_ends_as_they_say(pool: WorkerPool) -> None:
    task = Task(_config(), "a-run", waits_for_pruner=True)
    asked: list[int] = []

    def proceeds_until(last: int) -> Callable[[Evaluated], bool]:
        def answer(event: Evaluated) -> bool:
            asked.append(event.evaluation.iteration)
            return event.evaluation.iteration < last

        return answer

    ended = _train(pool, task, proceeds_until(20))[-1]
    # There is nothing to decide before training and at its end.
    assert asked == [10, 20]
    assert isinstance(ended, RunEnded)
    assert (ended.result.status, ended.result.env_steps) == (RunStatus.FINISHED, 20)
    asked.clear()
    _train(pool, task, proceeds_until(100))
    assert asked == [10, 20, 30]


def test_an_interrupted_run_ends_as_killed(pool: WorkerPool) -> None:
    _idle(pool).assign(Task(_config("tracking.tags={seconds: '0.05'}"), "a-run"))
    while not any(isinstance(message.event, RunStarted) for message in pool.receive(10.0)):
        pass
    pool.interrupt()
    while pool.busy:
        for message in pool.receive(10.0):
            last = message.event
    assert isinstance(last, RunEnded)
    assert last.result.status is RunStatus.KILLED
    assert last.result.env_steps < 40


def test_a_run_that_fails_costs_neither_the_worker_nor_the_next_run(pool: WorkerPool) -> None:
    failed = _train(pool, Task(_config("tracking.tags={raises: a-run}"), "a-run"))[-1]
    assert failed == RunFailed(None, "OSError: the disk is gone", retryable=True)
    failed = _train(pool, Task(_config("tracking.tags={diverges: a-run}"), "a-run"))[-1]
    assert failed == RunFailed(None, "the loss became nan", retryable=False)
    assert isinstance(_train(pool, Task(_config(), "a-run"))[-1], RunEnded)
    assert pool.workers[0].number == 0


def test_a_worker_that_dies_is_reported_with_its_cause_and_replaced(pool: WorkerPool) -> None:
    died = _train(pool, Task(_config("tracking.tags={dies: a-run}"), "a-run"))[-1]
    assert isinstance(died, WorkerDied)
    assert "signal 9" in died.cause
    assert isinstance(_train(pool, Task(_config(), "a-run"))[-1], RunEnded)
    assert [worker.number for worker in pool.workers] == [1]


def test_a_worker_that_dies_is_reported_with_the_run_that_it_recorded(pool: WorkerPool) -> None:
    config = _config("tracking.enabled=true", "tracking.tags={dies: a-run}")
    started, *_, died = _train(pool, Task(config, "a-run"))
    assert isinstance(started, RunStarted)
    assert isinstance(died, WorkerDied)
    assert died.run_id == started.run_id is not None


def test_processes_that_cannot_start_are_given_up_with_their_last_output() -> None:
    with (
        WorkerPool(1, fake_training.stillborn) as pool,
        pytest.raises(WorkerError, match=r"status 3: no such accelerator.*__main__"),
    ):
        _idle(pool)


def test_a_workers_process_is_not_in_the_terminals_process_group(pool: WorkerPool) -> None:
    worker = _idle(pool)
    pid = worker.handle.process.pid  # type: ignore[attr-defined]
    assert os.getpgid(pid) != os.getpgid(0)


def test_closing_a_pool_ends_its_processes_even_if_one_is_training() -> None:
    with WorkerPool(2, fake_training.serve) as pool:
        _idle(pool).assign(Task(_config("tracking.tags={seconds: '60'}"), "a-run"))
        processes = [worker.handle.process for worker in pool.workers]  # type: ignore[attr-defined]
        pool.close(at_once=True)
    assert not any(process.is_alive() for process in processes)


ORPHANS = """
import sys, time
from dqnkit.config import loading
from dqnkit.events import RunStarted
from dqnkit.workers.orders import Task
from dqnkit.workers.pool import WorkerPool
from tests import fake_training
if __name__ == "__main__":
    tags = "tracking.tags={seconds: '0.2'}"
    config = loading.default_config("orphans", ["training.num_iterations=100000", tags])
    pool = WorkerPool(2, fake_training.serve)
    started = 0
    while started < 2:
        for worker in pool.idle:
            worker.assign(Task(config, f"run-{worker.number}"))
        started += sum(isinstance(message.event, RunStarted) for message in pool.receive(10.0))
    print(*[worker.handle.process.pid for worker in pool.workers], flush=True)
    time.sleep(600)
"""


def test_when_the_parent_is_killed_runs_end_as_killed_and_no_process_is_left() -> None:
    Path("orphans.py").write_text(ORPHANS, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, "orphans.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "orphans"]
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["KILLED", "KILLED"]


def test_a_worker_that_holds_too_much_memory_is_replaced_after_its_run() -> None:
    with WorkerPool(1, fake_training.growing_after_one) as pool:
        for number in range(3):
            assert isinstance(_train(pool, Task(_config(), "a-run"))[-1], RunEnded)
            assert [worker.number for worker in pool.workers] == [number]
            messages = [message for _ in range(2) for message in pool.receive(10.0)]
            assert any(isinstance(message.event, WorkerRetired) for message in messages)


def test_the_cores_of_this_process_are_counted() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from dqnkit.workers.pool import available_cores; print(available_cores())"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=env).strip() == "1"
    assert available_cores() == len(os.sched_getaffinity(0))
