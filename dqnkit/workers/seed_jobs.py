"""Groups of seeds as work for a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dqnkit.events import RunStatus
from dqnkit.workers.messages import Died, Ended, Failed, Interrupted, Task
from dqnkit.workers.pool import WorkerMessage
from dqnkit.workers.seed_group import SeedGroup, SeedResult

ATTEMPTS = 3
"""How often a run is tried whose process dies, or that fails for a reason outside it."""


class _Seed(NamedTuple):
    """A run to train, or in training."""

    group: SeedGroup
    seed: int
    attempt: int

    @property
    def run_name(self) -> str:
        return f"{self.group.name}-s{self.seed}"


class SeedJobs:
    """Trains all seeds of groups that have no result yet (`Jobs`).

    A group's record is opened with its first run and closed with its last.
    """

    def __init__(
        self,
        groups: Sequence[SeedGroup],
        tracking_uri: str | None,
        on_result: Callable[[SeedGroup, SeedResult], None] = lambda *_: None,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._on_result = on_result
        self._open: list[SeedGroup] = []
        self._running: dict[str, _Seed] = {}
        self._pending = deque(
            _Seed(group, seed, 1)
            for group in groups
            for seed in group.seeds
            if seed not in {result.seed for result in group.results}
        )
        self.problems: list[str] = []
        self.failures: list[str] = []
        """Of each seed that was given up: why."""

    @property
    def is_done(self) -> bool:
        """See `Jobs`."""
        return not self._pending and not self._running

    @property
    def left(self) -> int:
        """Runs that are still to be trained."""
        return len(self._pending) + len(self._running)

    def next_task(self) -> Task | None:
        """See `Jobs`."""
        if not self._pending:
            return None
        run = self._pending.popleft()
        if run.group not in self._open:
            run.group.start()
            self._open.append(run.group)
        self._running[run.run_name] = run
        return Task(
            config=run.group.config.with_seed(run.seed),
            run_name=run.run_name,
            belongs_to=run.group.member,
            tracking_uri=self._tracking_uri,
        )

    def heard(self, news: WorkerMessage) -> None:
        """See `Jobs`."""
        task, message = news.task, news.message
        if task is None or not isinstance(message, Ended | Interrupted | Failed | Died):
            return
        run = self._running.pop(task.run_name)
        if isinstance(message, Ended):
            self.problems += message.problems
        if isinstance(message, Failed | Died):
            self._failed(run, message)
        elif isinstance(message, Ended) and message.status is RunStatus.FINISHED:
            result = SeedResult.of(run.seed, message)
            run.group.add(result)
            self._on_result(run.group, result)
        else:  # interrupted: it is still to be done
            self._pending.appendleft(run)
        self._close_if_done(run.group)

    def close(self, status: RunStatus) -> None:
        """Closes the records that are still open."""
        for group in self._open:
            self.problems += group.finish(status)
        self._open = []

    def _failed(self, run: _Seed, message: Failed | Died) -> None:
        if isinstance(message, Died) and message.run_id is not None:
            run.group.tracker.mark(message.run_id, {}, status=RunStatus.FAILED)
        again = isinstance(message, Died) or message.again
        if again and run.attempt < ATTEMPTS:
            self.problems.append(f"{run.run_name} is trained again: {message.cause}")
            self._pending.appendleft(run._replace(attempt=run.attempt + 1))
        else:
            self.failures.append(f"{run.run_name}: {message.cause}")

    def _close_if_done(self, group: SeedGroup) -> None:
        left = [*self._pending, *self._running.values()]
        if any(run.group is group for run in left):
            return
        complete = len(group.results) == len(group.seeds)
        self.problems += group.finish(RunStatus.FINISHED if complete else RunStatus.FAILED)
        self._open.remove(group)
