"""Training of groups of seeds by a pool of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from typing_extensions import override

from dqnkit.events import RunEnded, RunFailed, RunStatus, WorkerDied
from dqnkit.workers.dispatcher import Jobs
from dqnkit.workers.orders import Task
from dqnkit.workers.pool import WorkerMessage
from dqnkit.workers.seed_group import SeedGroup, SeedResult

ATTEMPTS = 3
"""Number of attempts for a run whose process dies, or that fails for an external reason."""


class _SeedRun(NamedTuple):
    """A run to train, or in training."""

    group: SeedGroup
    seed: int
    attempt: int

    @property
    def name(self) -> str:
        return f"{self.group.name}-s{self.seed}"


class SeedJobs(Jobs):
    """Trains all seeds of several groups.

    The record of a group is opened with its first run and closed with its last.
    """

    def __init__(
        self,
        groups: Sequence[SeedGroup],
        tracking_uri: str | None,
        on_result: Callable[[SeedGroup, SeedResult], None] = lambda *_: None,
    ) -> None:
        """Make the jobs.

        Args:
          groups: Groups of seeds; seeds that have a result are not trained again.
          tracking_uri: URI of the store for the workers.
          on_result: Called with each result.
        """
        self._tracking_uri = tracking_uri
        self._on_result = on_result
        self._open: list[SeedGroup] = []
        self._running: dict[str, _SeedRun] = {}
        self._pending = deque(
            _SeedRun(group, seed, 1)
            for group in groups
            for seed in group.seeds
            if seed not in {result.seed for result in group.results}
        )
        self.problems: list[str] = []
        """Descriptions of what could not be recorded, and of failed attempts."""
        self.failures: list[str] = []
        """Causes of the failure of seeds that are not attempted again."""

    @property
    @override
    def is_done(self) -> bool:
        return not self._pending and not self._running

    @property
    def left(self) -> int:
        """Number of runs that are still to be trained."""
        return len(self._pending) + len(self._running)

    @override
    def next_task(self) -> Task | None:
        if not self._pending:
            return None
        run = self._pending.popleft()
        if run.group not in self._open:
            run.group.start()
            self._open.append(run.group)
        self._running[run.name] = run
        return Task(
            config=run.group.config.with_seed(run.seed),
            run_name=run.name,
            parent=run.group.parent,
            tracking_uri=self._tracking_uri,
            resumes=run.group.unfinished.get(run.seed),
        )

    @override
    def handle(self, message: WorkerMessage) -> None:
        task, event = message.task, message.event
        if task is None or not isinstance(event, RunEnded | RunFailed | WorkerDied):
            return
        run = self._running.pop(task.run_name)
        if isinstance(event, RunEnded):
            self._ended(run, event)
        else:
            self._failed(run, event)
        self._close_if_done(run.group)

    def close(self, status: RunStatus) -> None:
        """Close the records that are still open."""
        for group in self._open:
            self.problems += group.finish(status)
        self._open = []

    def _ended(self, run: _SeedRun, event: RunEnded) -> None:
        self.problems += event.result.problems
        if event.result.status is RunStatus.FINISHED:
            result = SeedResult.from_run(run.seed, event.result)
            run.group.add(result)
            self._on_result(run.group, result)
        else:  # interrupted, and still to be trained
            self._pending.appendleft(run)

    def _failed(self, run: _SeedRun, event: RunFailed | WorkerDied) -> None:
        if isinstance(event, RunFailed) and event.is_interrupted:
            self._pending.appendleft(run)  # still to be trained
            return
        if isinstance(event, WorkerDied):
            run.group.fail_run(event.run_id)
        retryable = isinstance(event, WorkerDied) or event.retryable
        if retryable and run.attempt < ATTEMPTS:
            self.problems.append(f"{run.name} is trained again: {event.cause}")
            self._pending.appendleft(run._replace(attempt=run.attempt + 1))
        else:
            self.failures.append(f"{run.name}: {event.cause}")

    def _close_if_done(self, group: SeedGroup) -> None:
        left = [*self._pending, *self._running.values()]
        if any(run.group is group for run in left):
            return
        complete = len(group.results) == len(group.seeds)
        self.problems += group.finish(RunStatus.FINISHED if complete else RunStatus.FAILED)
        self._open.remove(group)
