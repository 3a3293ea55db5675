"""Definitions, trials, results and workers for tests of searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import sqlalchemy
from typing_extensions import override

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import Evaluated, Event, RunEnded, RunFailed, RunStatus, Warned
from dqnkit.processes import identity
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.editor import MayReplace, RegisteredPolicy, Registration, RunEditor
from dqnkit.tuning.confirmed_trial import ConfirmedTrial
from dqnkit.tuning.definition import StudyDefinition
from dqnkit.tuning.samplers import make_pruner, make_sampler
from dqnkit.tuning.space_factory import make_space
from dqnkit.tuning.standing import TrialScore
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.study import ClaimedTrial, SharedStudy, StudyPlan
from dqnkit.workers.orders import Order, Task
from dqnkit.workers.pool import WorkerMessage
from dqnkit.workers.seed_group import SeedResult, aggregate
from tests.fake_training import make_evaluation, make_result

SHORT = ("training.num_iterations=100", "evaluation.eval_interval=10")
"""Ten evaluations, besides the one before training."""


def make_definition(
    *assignments: str, seeds_per_trial: int = 1, reports_seeds: bool = False
) -> StudyDefinition:
    config, _ = resolve(loading.default_config("searched", [*SHORT, *assignments]))
    return StudyDefinition(config, make_space(config), seeds_per_trial, reports_seeds)


def make_plan(total: int = 5, grid: Sequence[dict[str, Any]] = ()) -> StudyPlan:
    return StudyPlan(total, partial(make_sampler, "random", 0), make_pruner("none", 5, 1), grid)


def ask(study: SharedStudy) -> ClaimedTrial:
    claim = study.ask()
    assert claim is not None
    return claim


@contextmanager
def as_process(process: str) -> Iterator[None]:
    """Let this process appear as another one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(identity, "identity", lambda: process)
        yield


def dead_process() -> str:
    """Return the identity of a dead process of this host."""
    host, boot, namespace, *_ = identity.identity().split("/")
    return f"{host}/{boot}/{namespace}/999999999/1"


REMOTE_PROCESS = "elsewhere/boot/pid:[1]/7/7"
"""Identity of a process on another host."""


def age_heartbeats(storage: StudyStorage, seconds: float) -> None:
    """Move all heartbeats in a database to an earlier time."""
    assert storage.url is not None
    earlier = {
        "postgresql": f"heartbeat - interval '{seconds} seconds'",
        "sqlite": f"datetime(heartbeat, '-{seconds} seconds')",
    }[storage.url.get_backend_name()]
    engine = sqlalchemy.create_engine(storage.url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"UPDATE trial_heartbeats SET heartbeat = {earlier}"))


def read_heartbeats(storage: StudyStorage) -> list[Any]:
    """Return the times of all heartbeats in a database."""
    assert storage.url is not None
    engine = sqlalchemy.create_engine(storage.url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        query = sqlalchemy.text("SELECT heartbeat FROM trial_heartbeats ORDER BY trial_id")
        return list(connection.execute(query).scalars())


# -- Results


def make_seed_result(
    seed: int, late: float = 1.0, final: float = 1.0, run_id: str | None = None
) -> SeedResult:
    return SeedResult(
        seed=seed,
        run_id=run_id,
        late_iqm=late,
        final_mean=final,
        final_iqm=final,
        steps_per_second=1000.0,
        seconds=1.0,
        curve=((10, late / 2), (20, late)),
    )


def make_confirmed(
    number: int, value: float, lates: Sequence[float], run_ids: Sequence[str] = ()
) -> ConfirmedTrial:
    """Make a confirmed trial with one fresh seed per score, from seed 1."""
    ids = list(run_ids) or [None] * len(lates)
    results = tuple(
        make_seed_result(seed, late, late, ids[seed - 1]) for seed, late in enumerate(lates, 1)
    )
    values = {"optimizer.learning_rate": 0.001 * (number + 1)}
    config = make_definition().config
    return ConfirmedTrial(TrialScore(number, value, values), config, results, aggregate(results))


def make_train_result(
    task: Task,
    evaluations: Sequence[Evaluation],
    status: RunStatus = RunStatus.FINISHED,
    run_id: str | None = None,
) -> TrainResult:
    return make_result(task.config, task.run_name, evaluations, status, run_id)


# -- Workers and records


class FakeWorker:
    """A worker that keeps the orders it receives."""

    number = 0

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def send(self, order: Order) -> None:
        self.orders.append(order)

    def message(self, task: Task | None, event: Event) -> WorkerMessage:
        return WorkerMessage(self, task, event)  # type: ignore[arg-type]


class InstantPool:
    """A pool with one worker, which ends each task at once."""

    def __init__(self, score: Callable[[Task], float | None]) -> None:
        """Make the pool.

        Args:
          score: Returns the score of a task; None lets its run fail.
        """
        self._score = score
        self._task: Task | None = None
        self.number = 0
        self.tasks: list[Task] = []
        self.is_closed = False

    @property
    def idle(self) -> list[InstantPool]:
        return [] if self._task else [self]

    @property
    def busy(self) -> list[InstantPool]:
        return [self] if self._task else []

    def assign(self, task: Task) -> None:
        self._task = task
        self.tasks.append(task)

    def receive(self, timeout: float) -> Iterator[WorkerMessage]:
        task, self._task = self._task, None
        if task is None:
            return
        score = self._score(task)
        event: Event = RunFailed(None, "it broke", retryable=False)
        if score is not None:
            evaluations = [make_evaluation(100, score)]
            run_id = f"run-{task.run_name}"
            event = RunEnded(make_train_result(task, evaluations, run_id=run_id))
        yield WorkerMessage(self, task, event)  # type: ignore[arg-type]

    def interrupt(self) -> None:
        pass

    def close(self, *, at_once: bool = False) -> None:
        self.is_closed = True


def evaluated(*values: float, interval: int = 10) -> Evaluated:
    """Make the event of the last of several evaluations; the first is before training."""
    evaluations = [make_evaluation(interval * i, value) for i, value in enumerate(values)]
    return Evaluated(evaluations[-1], evaluations[-1], late_episodes(evaluations))


class RecordingEditor(RunEditor):
    """A run editor that keeps the changes it is asked for."""

    def __init__(self, found: str | None = None) -> None:
        super().__init__()
        self.found = found
        self.marked: list[tuple[str | None, dict[str, str], RunStatus | None]] = []
        self.orphans: list[dict[str, str]] = []
        self.registered: list[tuple[str, str, str, dict[str, str]]] = []
        self.version: str | None = "1"
        self.champion: RegisteredPolicy | None = None
        self.end_stale_calls = 0

    @override
    def find(self, tags: Mapping[str, str]) -> str | None:
        return self.found

    @override
    def end_orphans(self, tags: Mapping[str, str], new_tags: Mapping[str, str]) -> None:
        self.orphans.append(dict(tags))

    @override
    def end_stale(self) -> None:
        self.end_stale_calls += 1

    @override
    def mark(
        self, run_id: str | None, tags: Mapping[str, str], status: RunStatus | None = None
    ) -> None:
        self.marked.append((run_id, dict(tags), status))

    @override
    def register(
        self,
        run_id: str,
        model: str,
        alias: str,
        tags: Mapping[str, str],
        may_replace: MayReplace = lambda _: True,
    ) -> Registration | None:
        self.registered.append((run_id, model, alias, dict(tags)))
        if self.version is None:
            return None
        has_alias = self.champion is None or may_replace(self.champion)
        return Registration(self.version, has_alias, self.champion)


class EventLog:
    """A listener that keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Warned)]

    def of_type(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
