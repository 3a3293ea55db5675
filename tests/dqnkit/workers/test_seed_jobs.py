from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from dqnkit.config import loading
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.events import (
    Event,
    Progress,
    RunEnded,
    RunFailed,
    RunStarted,
    RunStatus,
    WorkerDied,
)
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.tracker import ParentRun
from dqnkit.workers.orders import Task
from dqnkit.workers.pool import WorkerMessage
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult
from dqnkit.workers.seed_jobs import ATTEMPTS, SeedJobs

CONFIG = loading.default_config("jobs")


class Group(SeedGroup):
    """A group without a store, which notes how its record is opened and closed."""

    def __init__(self, name: str, seeds: tuple[int, ...]) -> None:
        super().__init__(CONFIG, name, seeds, GroupRecord(None))
        self.statuses: list[RunStatus] = []
        self.failed_runs: list[str | None] = []
        self.starts = 0

    @property
    def parent(self) -> ParentRun:
        return ParentRun(f"id-of-{self.name}")

    def start(self) -> None:
        self.starts += 1

    def fail_run(self, run_id: str | None) -> None:
        self.failed_runs.append(run_id)

    def finish(self, status: RunStatus, tags: Any = None) -> list[str]:
        self.statuses.append(status)
        return [f"{self.name} is closed"]


def _jobs(*groups: Group) -> tuple[SeedJobs, list[tuple[str, int]]]:
    """Return jobs, and a list of the seeds with a result."""
    done: list[tuple[str, int]] = []
    jobs = SeedJobs(groups, "a-store", lambda group, result: done.append((group.name, result.seed)))
    return jobs, done


def _handle(jobs: SeedJobs, task: Task | None, event: Event) -> None:
    jobs.handle(WorkerMessage(cast("Any", None), task, event))


def _ended(
    task: Task, status: RunStatus = RunStatus.FINISHED, problems: tuple[str, ...] = ()
) -> RunEnded:
    evaluation = Evaluation(returns=(1.0, 2.0), lengths=(1, 1), iteration=9, env_steps=9)
    result = TrainResult(
        experiment=task.config.name,
        run_name=task.run_name,
        run_id=f"id-of-{task.run_name}",
        status=status,
        iterations=9,
        env_steps=9,
        seconds=1.0,
        compile_seconds=0.1,
        training_seconds=0.9,
        steps_per_second=10.0,
        last=evaluation,
        best=evaluation,
        final=evaluation,
        late=evaluation,
        evaluations=(evaluation,),
        checkpoints=0,
        checkpoint_seconds=0.0,
        checkpoint_megabytes=0.0,
        problems=list(problems),
    )
    return RunEnded(result)


def _next(jobs: SeedJobs) -> Task:
    task = jobs.next_task()
    assert task is not None
    return task


def test_each_seed_is_a_run_below_its_group() -> None:
    group = Group("g", (3, 4))
    jobs, done = _jobs(group)
    assert (jobs.left, jobs.is_done, group.starts) == (2, False, 0)
    first, second = _next(jobs), _next(jobs)
    assert jobs.next_task() is None
    assert first == Task(CONFIG.with_seed(3), "g-s3", ParentRun("id-of-g"), "a-store")
    assert (second.run_name, second.config.training.seed) == ("g-s4", 4)
    assert (jobs.left, jobs.is_done, group.starts) == (2, False, 1)
    for task in (second, first):
        _handle(jobs, task, RunStarted("an-id", 0.1, 0))
        _handle(jobs, task, _ended(task, problems=(f"problem of {task.run_name}",)))
    assert (jobs.left, jobs.is_done) == (0, True)
    assert done == [("g", 4), ("g", 3)]
    assert [result.run_id for result in group.results] == ["id-of-g-s3", "id-of-g-s4"]
    assert group.statuses == [RunStatus.FINISHED]
    assert jobs.problems == ["problem of g-s4", "problem of g-s3", "g is closed"]
    assert jobs.failures == []


def test_groups_are_opened_with_their_first_and_closed_with_their_last_run() -> None:
    groups = [Group("a", (0, 1)), Group("b", (0,))]
    jobs, _ = _jobs(*groups)
    tasks = [_next(jobs), _next(jobs)]
    assert [group.starts for group in groups] == [1, 0]
    tasks.append(_next(jobs))
    assert [task.run_name for task in tasks] == ["a-s0", "a-s1", "b-s0"]
    assert [group.starts for group in groups] == [1, 1]
    for task in (tasks[2], tasks[0]):
        _handle(jobs, task, _ended(task))
    assert [group.statuses for group in groups] == [[], [RunStatus.FINISHED]]
    _handle(jobs, tasks[1], _ended(tasks[1]))
    assert [group.statuses for group in groups] == [[RunStatus.FINISHED]] * 2


def test_seeds_with_a_result_are_not_trained_again() -> None:
    group = Group("g", (3, 4))
    task = Task(CONFIG, "g-s3")
    group.add(SeedResult.from_run(3, _ended(task).result))
    jobs, done = _jobs(group)
    second = _next(jobs)
    assert (second.run_name, jobs.left) == ("g-s4", 1)
    _handle(jobs, second, _ended(second))
    assert (group.statuses, done) == ([RunStatus.FINISHED], [("g", 4)])


@pytest.mark.parametrize(
    "event",
    [WorkerDied("its-run", "signal 9"), RunFailed("its-run", "signal 9", retryable=True)],
)
def test_a_run_is_repeated_after_a_failure_from_outside(event: Event) -> None:
    group = Group("g", (3, 4))
    jobs, _ = _jobs(group)
    for _ in range(ATTEMPTS - 1):
        task = _next(jobs)
        assert task.run_name == "g-s3"  # before the next seed
        _handle(jobs, task, event)
    assert jobs.problems == ["g-s3 is trained again: signal 9"] * (ATTEMPTS - 1)
    assert jobs.failures == []
    last = _next(jobs)
    _handle(jobs, last, event)
    assert jobs.failures == ["g-s3: signal 9"]
    assert group.statuses == []
    other = _next(jobs)
    _handle(jobs, other, _ended(other))
    assert (jobs.is_done, group.statuses) == (True, [RunStatus.FAILED])
    # A worker that lives has closed the record of the run itself.
    died = isinstance(event, WorkerDied)
    assert group.failed_runs == (["its-run"] * ATTEMPTS if died else [])


def test_attempts_are_counted_for_each_run() -> None:
    jobs, _ = _jobs(Group("g", (3, 4)))
    tasks = [_next(jobs), _next(jobs)]
    for task in tasks:
        _handle(jobs, task, WorkerDied(None, "signal 9"))
    assert (jobs.failures, jobs.left) == ([], 2)
    assert {_next(jobs).run_name, _next(jobs).run_name} == {"g-s3", "g-s4"}


def test_a_run_whose_configuration_is_wrong_is_not_repeated() -> None:
    group = Group("g", (3,))
    jobs, done = _jobs(group)
    _handle(jobs, _next(jobs), RunFailed("its-run", "the loss became nan", retryable=False))
    assert (jobs.is_done, done) == (True, [])
    assert jobs.failures == ["g-s3: the loss became nan"]
    assert group.statuses == [RunStatus.FAILED]


def test_an_interrupted_run_is_still_to_be_trained() -> None:
    group = Group("g", (3,))
    jobs, done = _jobs(group)
    task = _next(jobs)
    _handle(jobs, task, _ended(task, RunStatus.KILLED))
    assert (jobs.is_done, jobs.left, done, group.statuses) == (False, 1, [], [])
    jobs.close(RunStatus.KILLED)
    assert group.statuses == [RunStatus.KILLED]
    assert _next(jobs).run_name == "g-s3"


def test_only_open_records_are_closed() -> None:
    groups = [Group("a", (0,)), Group("b", (0,)), Group("c", (0,))]
    jobs, _ = _jobs(*groups)
    task, _ = _next(jobs), _next(jobs)
    _handle(jobs, task, _ended(task))
    jobs.close(RunStatus.FAILED)
    jobs.close(RunStatus.KILLED)
    expected = [[RunStatus.FINISHED], [RunStatus.FAILED], []]
    assert [group.statuses for group in groups] == expected


def test_events_that_end_no_run_change_nothing() -> None:
    jobs, done = _jobs(Group("g", (3,)))
    task = _next(jobs)
    _handle(jobs, task, RunStarted("an-id", 0.1, 0))
    _handle(jobs, task, Progress(1, 1, (), 1.0))
    _handle(jobs, None, WorkerDied(None, "signal 9"))  # an idle worker
    assert (jobs.left, done, jobs.problems) == (1, [], [])
    _handle(jobs, task, replace(_ended(task)))
    assert jobs.is_done
