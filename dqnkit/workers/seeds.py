"""Training one configuration with several seeds."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from dqnkit._system.extras import check_server_not_shared
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, InterruptedRun, WorkerError
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import catch_signals
from dqnkit.workers.dispatcher import WorkReporter, run_jobs
from dqnkit.workers.messages import Message, Task
from dqnkit.workers.placement import Placement, make_launcher
from dqnkit.workers.pool import WorkerPool
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult, SeedScores, scores
from dqnkit.workers.seed_jobs import SeedJobs

_MAX_SEEDS = 1_000


@dataclass(frozen=True, kw_only=True)
class SeedsOptions:
    """How several seeds are trained.

    Raises:
      ConfigError: A number is out of its range.
    """

    count: int
    """Seeds: the configuration's own, and those that follow it."""
    workers: int | None = None
    """Processes; None takes as many as there are cores, or as a cluster has room for."""
    run_name: str | None = None
    """Of the run that stands above those of the seeds."""
    launch: Placement = field(default_factory=Placement)
    """Where workers run."""

    def __post_init__(self) -> None:
        check_number("--seeds", self.count, _MAX_SEEDS)
        check_workers(self.workers)


@dataclass(frozen=True)
class SeedsResult:
    """What several seeds of one configuration came to."""

    experiment: str
    run_name: str
    run_id: str | None
    seeds: tuple[SeedResult, ...]
    scores: SeedScores
    seconds: float
    hints: dict[str, str]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "seeds": [each.as_dict() for each in self.seeds],
            "scores": self.scores.as_dict(),
        }


class SeedsReporter(WorkReporter, Protocol):
    """Hears of several seeds as they train."""

    def began(self, config: Config, run_name: str, seeds: Sequence[int]) -> None:
        """Workers are being started."""

    def result(self, result: SeedResult) -> None:
        """A seed is done."""


class SilentSeedsReporter:
    """Says nothing (`SeedsReporter`)."""

    def began(self, config: Config, run_name: str, seeds: Sequence[int]) -> None:
        """See `SeedsReporter`."""

    def given(self, worker: int, task: Task) -> None:
        """See `WorkReporter`."""

    def heard(self, worker: int, message: Message) -> None:
        """See `WorkReporter`."""

    def result(self, result: SeedResult) -> None:
        """See `SeedsReporter`."""


def train_seeds(
    config: Config,
    options: SeedsOptions,
    *,
    tracking_uri: str | None = None,
    reporter: SeedsReporter | None = None,
) -> SeedsResult:
    """Trains a configuration with several seeds, in processes, and aggregates what they come to.

    Args:
      config: Its own seed is the first; those that follow it come next.
      options: How many seeds, and how.
      tracking_uri: The store; see `dqnkit.tracking.location.resolve`.
      reporter: Hears of progress.

    Raises:
      ConfigError: The configuration cannot be run.
      TrackingError: The store cannot be reached.
      WorkerError: Seeds failed; what the others came to is recorded.
      InterruptedRun: A signal came; what there was is recorded, as KILLED.
    """
    count = options.count
    reporter = reporter or SilentSeedsReporter()
    check_server_not_shared(config.replay.address, f"--seeds {options.count}")
    config, _ = resolve(config)
    first = config.training.seed
    began = time.perf_counter()
    launched = make_launcher(options.launch, tracking_uri)
    size = min(options.workers or launched.capacity, count)
    group = SeedGroup(
        config,
        options.run_name or f"{config.name}-{count}-seeds-{secrets.token_hex(2)}",
        tuple(range(first, first + count)),
        GroupRecord(launched.tracking_uri),
    )
    jobs = SeedJobs([group], launched.tracking_uri, lambda _, result: reporter.result(result))
    reporter.began(config, group.name, group.seeds)
    with catch_signals() as interrupts:
        try:
            with WorkerPool(size, launcher=launched.launcher) as pool:
                run_jobs(pool, jobs, reporter, interrupts)
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            jobs.close(RunStatus.KILLED if killed else RunStatus.FAILED)
            raise
        jobs.close(RunStatus.KILLED)
    if interrupts.signal is not None and not jobs.is_done:
        raise InterruptedRun(
            f"interrupted by {interrupts.signal.name} after {len(group.results)} of {count} seeds; "
            f"what was trained until then is recorded below the run {group.name!r}"
        )
    if jobs.failures:
        raise WorkerError(
            f"{len(jobs.failures)} of {count} seeds failed: {'; '.join(jobs.failures)}"
        )
    return SeedsResult(
        experiment=config.name,
        run_name=group.name,
        run_id=group.tracker.run_id,
        seeds=tuple(group.results),
        scores=scores(group.results),
        seconds=time.perf_counter() - began,
        hints=group.tracker.hints(),
        problems=jobs.problems,
    )


def check_workers(given: int | None) -> None:
    """Refuses an option that is out of range.

    Raises:
      ConfigError: It is.
    """
    if given is not None:
        check_number("--workers", given, 1_024)


def check_number(option: str, given: int, most: int, least: int = 1) -> None:
    """Refuses what is out of range.

    Raises:
      ConfigError: It is.
    """
    if not least <= given <= most:
        raise ConfigError(f"{option} {given}: give a number from {least} to {most:,}")
