"""Training one configuration with several seeds."""

from __future__ import annotations

import secrets
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from dqnkit._system.extras import check_server_not_shared
from dqnkit._system.files import kept_working_directory
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import cautions, resolve
from dqnkit.errors import ArgumentError, InterruptedRun, WorkerError
from dqnkit.events import Listener, RunStatus, SeedEnded, SeedsStarted, Warned, ignore
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tracking.store import RunStore
from dqnkit.workers.dispatcher import run_jobs
from dqnkit.workers.launch_plan import LaunchPlan, make_launch_plan
from dqnkit.workers.placement import LOCAL, Placement
from dqnkit.workers.pool import WorkerPool
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult, SeedScores, aggregate
from dqnkit.workers.seed_jobs import SeedJobs
from dqnkit.workers.seed_resumption import find_group, restore_group

_MAX_SEEDS = 1_000
_MAX_WORKERS = 1_024


@dataclass(frozen=True)
class SeedsResult:
    """Result of training one configuration with several seeds."""

    experiment: str
    run_name: str
    run_id: str | None
    """MLflow's id of the parent run; None if nothing is recorded."""
    seeds: tuple[SeedResult, ...]
    scores: SeedScores
    seconds: float
    hints: dict[str, str]
    """Commands and addresses that show the record, by label."""
    problems: list[str]
    """Descriptions of what could not be recorded."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        seeds = [each.as_dict() for each in self.seeds]
        return {**asdict(self), "seeds": seeds, "scores": self.scores.as_dict()}


def train_seeds(
    config: Config,
    num_seeds: int = 5,
    *,
    workers: int | None = None,
    run_name: str | None = None,
    placement: Placement = LOCAL,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> SeedsResult:
    """Train a configuration with several seeds in worker processes, and aggregate the results.

    A script must call this below `if __name__ == "__main__"`, because workers import it.

    Args:
      config: The configuration; its own seed is the first, and the next ones follow.
      num_seeds: Number of seeds.
      workers: Number of processes; None takes one per core, or as many as fit on the cluster.
      run_name: Name of the parent run; experiment, number of seeds and a short id by default.
      placement: Launcher of the workers, and the resources of each.
      tracking_uri: URI of the MLflow store; None records nothing.
      listener: Receives the events of the group and of its runs.

    Raises:
      ConfigError: If the configuration cannot be run.
      TrackingError: If the store cannot be reached.
      WorkerError: If seeds failed; the results of the others are recorded.
      InterruptedRun: If SIGINT, SIGTERM or SIGHUP came; the results so far are recorded as
        KILLED.
    """
    check_range("num_seeds", num_seeds, 1, _MAX_SEEDS)
    check_workers(workers)
    check_server_not_shared(config.replay.address, "several seeds")
    with kept_working_directory():  # the workers and the record follow
        given, (config, spec) = config, resolve(config)
    plan = make_launch_plan(placement, tracking_uri)
    with closing(plan.launcher):
        group = _make_group(config, num_seeds, run_name, plan)
        for text in cautions(given, config, spec):
            listener(Warned(text))
        return _train_group(group, workers, plan, listener)


def resume_seeds(
    run: str,
    *,
    workers: int | None = None,
    placement: Placement = LOCAL,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> SeedsResult | None:
    """Continue an interrupted group of seeds in its own record.

    Its interrupted runs continue from their checkpoints, and seeds without a run are trained.

    Args:
      run: Name or id of the group's run.
      workers: Number of processes, as in `train_seeds`.
      placement: Launcher of the workers, and the resources of each.
      tracking_uri: URI of the store that has the group.
      listener: Receives the events of the group and of its runs.

    Returns:
      The result; None if no group of seeds has the name or id.

    Raises:
      ConfigError: If all seeds are trained. This and all other errors are those of `train_seeds`.
      CheckpointError: If nothing tells what the group was to train.
    """
    check_workers(workers)
    plan = make_launch_plan(placement, tracking_uri)
    with closing(plan.launcher):
        store = RunStore(locate_store(plan.tracking_uri))
        found = find_group(store, run)
        if found is None:
            return None
        return _train_group(restore_group(store, found), workers, plan, listener)


def _train_group(
    group: SeedGroup, workers: int | None, plan: LaunchPlan, listener: Listener
) -> SeedsResult:
    """Train the seeds of a group that have no result."""
    began, config = time.perf_counter(), group.config
    jobs = SeedJobs([group], plan.tracking_uri, lambda _, result: listener(SeedEnded(result)))
    listener(SeedsStarted(config, group.name, group.seeds))
    for result in group.results:
        listener(SeedEnded(result))
    size = min(workers or plan.capacity, jobs.left)
    with catch_signals() as interrupts:
        _run(jobs, size, plan, listener, interrupts)
    _check_complete(jobs, group, interrupts)
    return SeedsResult(
        experiment=config.name,
        run_name=group.name,
        run_id=group.run_id,
        seeds=tuple(group.results),
        scores=aggregate(group.results),
        seconds=time.perf_counter() - began,
        hints=group.hints,
        problems=jobs.problems,
    )


def _make_group(
    config: Config, num_seeds: int, run_name: str | None, plan: LaunchPlan
) -> SeedGroup:
    first = config.training.seed
    name = run_name or f"{config.name}-{num_seeds}-seeds-{secrets.token_hex(2)}"
    record = GroupRecord(plan.tracking_uri)
    return SeedGroup(config, name, tuple(range(first, first + num_seeds)), record)


def _run(
    jobs: SeedJobs, size: int, plan: LaunchPlan, listener: Listener, interrupts: Interrupts
) -> None:
    """Train all seeds, and close the record with the right status whatever happens."""
    try:
        with WorkerPool(size, launcher=plan.launcher) as pool:
            run_jobs(pool, jobs, listener, interrupts)
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        jobs.close(RunStatus.KILLED if killed else RunStatus.FAILED)
        raise
    jobs.close(RunStatus.KILLED)


def _check_complete(jobs: SeedJobs, group: SeedGroup, interrupts: Interrupts) -> None:
    """Check that all seeds are trained.

    Raises:
      InterruptedRun: If a signal came before.
      WorkerError: If seeds failed.
    """
    if interrupts.signal is not None and not jobs.is_done:
        raise InterruptedRun(
            f"interrupted by {interrupts.signal.name} after {len(group.results)} of "
            f"{len(group.seeds)} seeds; the training so far is recorded below the run "
            f"{group.name!r}{group.how_to_resume()}"
        )
    if jobs.failures:
        raise WorkerError(
            f"{len(jobs.failures)} of {len(group.seeds)} seeds failed: {'; '.join(jobs.failures)}"
        )


def check_workers(workers: int | None) -> None:
    """Check the argument `workers`.

    Raises:
      ArgumentError: If it is out of range.
    """
    if workers is not None:
        check_range("workers", workers, 1, _MAX_WORKERS)


def check_range(argument: str, value: float, low: int, high: int) -> None:
    """Check that an argument is within its range, ends included.

    Raises:
      ArgumentError: If it is not.
    """
    if not low <= value <= high:
        raise ArgumentError(argument, value, f"expected a number from {low} to {high:,}")
