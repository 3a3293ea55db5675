from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dqnkit.workers.messages import Began, Died, Ended, Evaluated, Failed, Message, Task, Verdict

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import WorkerError
from dqnkit.events import RunStatus
from dqnkit.workers.pool import Worker, WorkerPool
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


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1, fake_training.serve) as started:
        yield started


def _idle(pool: WorkerPool) -> Worker:
    while not pool.idle:
        list(pool.news(10.0))
    return pool.idle[0]


def _train(
    pool: WorkerPool, task: Task, answer: Callable[[Evaluated], bool] | None = None
) -> list[Message]:
    """All that a worker says of a run."""
    _idle(pool).give(task)
    said: list[Message] = []
    while not (said and isinstance(said[-1], Ended | Failed | Died)):
        for news in pool.news(10.0):
            said.append(news.message)
            if isinstance(news.message, Evaluated) and news.message.asks:
                news.worker.send(Verdict(answer(news.message)))
    return said


def test_a_worker_tells_of_a_run_and_takes_the_next(pool: WorkerPool) -> None:
    for rate in (1e-3, 1e-2):
        config = _config(f"optimizer.learning_rate={rate}")
        said = _train(pool, Task(config, "a-run"))
        assert isinstance(said[0], Began)
        evaluated = [each for each in said if isinstance(each, Evaluated)]
        assert [each.evaluation.iteration for each in evaluated] == [0, 10, 20, 30, 40]
        assert not any(each.asks for each in evaluated)
        ended = said[-1]
        assert isinstance(ended, Ended)
        assert ended.status is RunStatus.FINISHED
        assert ended.final.summary.mean == pytest.approx(fake_training.score(config))
    assert len(pool.workers) == 1


def test_a_run_that_asks_waits_and_ends_where_it_is_told(pool: WorkerPool) -> None:
    task = Task(_config(), "a-run", asks=True)
    said = _train(pool, task, lambda each: each.evaluation.iteration < 20)
    # Neither before training nor at its end is there anything to decide.
    asked = [e.evaluation.iteration for e in said if isinstance(e, Evaluated) and e.asks]
    assert asked == [10, 20]
    ended = said[-1]
    assert isinstance(ended, Ended)
    assert (ended.status, ended.env_steps) == (RunStatus.FINISHED, 20)
    said = _train(pool, task, lambda _: True)
    assert [e.evaluation.iteration for e in said if isinstance(e, Evaluated) and e.asks] == [
        10,
        20,
        30,
    ]


def test_an_interrupted_run_ends_as_killed(pool: WorkerPool) -> None:
    _idle(pool).give(Task(_config("tracking.tags={seconds: '0.05'}"), "a-run"))
    while not any(isinstance(news.message, Began) for news in pool.news(10.0)):
        pass
    pool.interrupt()
    while pool.busy:
        for news in pool.news(10.0):
            last = news.message
    assert isinstance(last, Ended)
    assert last.status is RunStatus.KILLED
    assert last.env_steps < 40


def test_a_run_that_fails_costs_neither_worker_nor_the_next(pool: WorkerPool) -> None:
    failed = _train(pool, Task(_config("tracking.tags={raises: a-run}"), "a-run"))[-1]
    assert failed == Failed(None, "OSError: the disk is gone", again=True)
    failed = _train(pool, Task(_config("tracking.tags={diverges: a-run}"), "a-run"))[-1]
    assert failed == Failed(None, "the loss became nan", again=False)
    assert isinstance(_train(pool, Task(_config(), "a-run"))[-1], Ended)
    assert pool.workers[0].number == 0


def test_a_worker_that_dies_says_how_and_is_replaced(pool: WorkerPool) -> None:
    died = _train(pool, Task(_config("tracking.tags={dies: a-run}"), "a-run"))[-1]
    assert isinstance(died, Died)
    assert "signal 9" in died.cause
    assert isinstance(_train(pool, Task(_config(), "a-run"))[-1], Ended)
    assert [worker.number for worker in pool.workers] == [1]


def test_processes_that_cannot_start_are_given_up_with_their_last_words() -> None:
    with (
        WorkerPool(1, fake_training.stillborn) as pool,
        pytest.raises(WorkerError, match=r"status 3: no such accelerator.*__main__"),
    ):
        _idle(pool)


def test_a_terminals_interrupt_is_for_the_parent_alone(pool: WorkerPool) -> None:
    worker = _idle(pool)
    pid = worker.handle.process.pid
    assert pid is not None
    assert os.getpgid(pid) != os.getpgid(0)


def test_leaving_ends_the_processes_also_one_that_trains() -> None:
    with WorkerPool(2, fake_training.serve) as pool:
        _idle(pool).give(Task(_config("tracking.tags={seconds: '60'}"), "a-run"))
        processes = [worker.handle.process for worker in pool.workers]
        pool.close(at_once=True)
    assert not any(process.is_alive() for process in processes)


ORPHANS = """
import sys, time
from dqnkit.config import loading
from dqnkit.workers.messages import Began, Task
from dqnkit.workers.pool import WorkerPool
from tests import fake_training
if __name__ == "__main__":
    tags = "tracking.tags={seconds: '0.2'}"
    config = loading.default_config("orphans", ["training.num_iterations=100000", tags])
    pool = WorkerPool(2, fake_training.serve)
    began = 0
    while began < 2:
        for worker in pool.idle:
            worker.give(Task(config, f"run-{worker.number}"))
        began += sum(isinstance(news.message, Began) for news in pool.news(10.0))
    print(*[worker.handle.process.pid for worker in pool.workers], flush=True)
    time.sleep(600)
"""


def test_when_the_parent_is_killed_runs_end_as_killed_and_no_process_stays() -> None:
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


def test_a_worker_that_has_grown_leaves_after_its_run_and_another_comes() -> None:
    with WorkerPool(1, fake_training.growing_after_one) as pool:
        for number in range(3):
            assert isinstance(_train(pool, Task(_config(), "a-run"))[-1], Ended)
            assert [worker.number for worker in pool.workers] == [number]
