"""A search, from its first trial to the registered champion."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import replace
from functools import partial

from dqnkit._system.commands import command_line
from dqnkit._system.extras import check_server_not_shared
from dqnkit._system.files import kept_working_directory
from dqnkit._system.redaction import redact_passwords
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, InterruptedRun
from dqnkit.events import Listener, SearchStarted, Warned, ignore
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.tracking.location import AUTO
from dqnkit.tuning import report
from dqnkit.tuning.catalog import find_definition, find_unfinished, open_study
from dqnkit.tuning.conclusion import Conclusion, ConclusionResult
from dqnkit.tuning.confirmed_trial import FRESH_SEEDS
from dqnkit.tuning.definition import StudyDefinition
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.samplers import grid_points, make_pruner, make_sampler
from dqnkit.tuning.space import Space
from dqnkit.tuning.space_factory import make_space
from dqnkit.tuning.standing import standing_of
from dqnkit.tuning.storage import StudyStorage, check_name, locate_storage
from dqnkit.tuning.study import StudyPlan
from dqnkit.tuning.study_run import StudyRun, check_store
from dqnkit.tuning.trial_jobs import Pruning, TrialJobs
from dqnkit.workers.dispatcher import run_jobs
from dqnkit.workers.launch_plan import make_launch_plan
from dqnkit.workers.pool import WorkerPool

DEFAULT_OPTIONS = TuneOptions()
_POLL_SECONDS = 1.0
_MIN_EVALUATIONS = 2
"""Minimum number of evaluations per training, besides the one before training."""
_PRUNING = {"wilcoxon": Pruning.BY_SEED, "none": Pruning.NEVER}
"""Schedule of the pruners that do not prune by evaluation."""


def tune(
    config: Config,
    options: TuneOptions = DEFAULT_OPTIONS,
    *,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> TuneResult:
    """Search for a better configuration, confirm the best ones, and register the winner.

    A script must call this below `if __name__ == "__main__"`, because workers import it.

    Args:
      config: The experiment. Its section `search` defines the space, and its own values are those
        of trial 0.
      options: Options of the search.
      tracking_uri: URI of the MLflow store; None records nothing.
      listener: Receives the events of the search and of its runs.

    Raises:
      ConfigError: If the experiment, the space or an option is wrong, or the study has another
        definition. Nothing was trained.
      TrackingError: If the MLflow store cannot be reached.
      StudyError: If the storage of studies cannot be reached, or too many trials in a row failed.
      WorkerError: If workers cannot be started.
      InterruptedRun: If a signal came. The same call continues the search.
    """
    interrupts = Interrupts()
    storage = locate_storage(options.storage, lambda: bool(interrupts))
    search = _Search(config, options, storage, tracking_uri, listener)
    with catch_signals(interrupts):
        return search.run(interrupts)


def stored_experiment(study: str, storage: str | None = None) -> Config | None:
    """Return the experiment of a study, with its search space; None if there is no such study.

    Args:
      study: Name of the study.
      storage: URL of a database (see `TuneOptions.storage`).

    Raises:
      ConfigError: If dqnkit did not make the study.
      StudyError: If the storage does not answer.
    """
    definition = find_definition(locate_storage(storage), study)
    if definition is None:
        return None
    return definition.config.model_copy(update={"search": dict(definition.space.distributions)})


class _Search:
    """One start of a search."""

    def __init__(
        self,
        config: Config,
        options: TuneOptions,
        storage: StudyStorage,
        tracking_uri: str | None,
        listener: Listener,
    ) -> None:
        """Check everything that can be checked, and open the study."""
        self._began = time.monotonic()
        self._options = options
        self._storage = storage
        self._tracking_uri = tracking_uri
        self._listener = listener
        with kept_working_directory():  # environments are made to look at them
            definition = _define_study(config, options)
        self._config = definition.config
        plan = _plan(definition, options)
        name = options.study or find_unfinished(storage, definition) or _new_name(self._config)
        check_name(name)
        check_store(self._config, tracking_uri)  # before the study is made
        self._launch_plan = make_launch_plan(options.placement, tracking_uri)
        try:
            self._study = open_study(storage, name, definition, plan)
        except BaseException:
            self._launch_plan.launcher.close()
            raise
        self._study_run = StudyRun(self._study, self._launch_plan.tracking_uri)
        _, self._problems = definition.space.params(self._config)

    def run(self, interrupts: Interrupts) -> TuneResult:
        """Search, confirm the best trials and register the winner."""
        options = self._options
        max_runs = max(self._study.total, options.confirm * FRESH_SEEDS)
        size = min(options.workers or self._launch_plan.capacity, max_runs)
        standing = standing_of(self._study)
        self._listener(SearchStarted(self._study.name, self._config.name, size, standing))
        for problem in self._problems:
            self._listener(Warned(problem))
        launcher = self._launch_plan.launcher
        with WorkerPool(size, launcher=launcher) as pool, self._study_run.open(options, interrupts):
            jobs = self._search(pool, interrupts)
            self._wait_for_others(jobs, interrupts)
            searched_at = time.monotonic()
            conclusion = Conclusion(self._study, self._study_run, self._listener, options)
            try:
                concluded = conclusion.run(pool, interrupts)
            finally:
                self._problems += conclusion.problems
            if concluded is None:
                raise self._make_interruption(interrupts)
            result = self._make_result(concluded, searched_at)
        # What the store did not receive is known once the record is closed.
        return replace(result, problems=self._problems + self._study_run.problems)

    def _search(self, pool: WorkerPool, interrupts: Interrupts) -> TrialJobs:
        timeout = self._options.timeout
        pruning = _PRUNING.get(self._options.pruner, Pruning.BY_EVALUATION)
        deadline = math.inf if timeout is None else self._began + timeout
        jobs = TrialJobs(self._study, self._study_run, self._listener, pruning, deadline)
        jobs.end_orphans()
        jobs.reap()
        try:
            run_jobs(pool, jobs, self._listener, interrupts)
        finally:
            if pool.busy:
                pool.close(at_once=True)
            jobs.abandon()
            self._problems += jobs.problems
        return jobs

    def _wait_for_others(self, jobs: TrialJobs, interrupts: Interrupts) -> None:
        """Wait until no process runs a trial: others may search on after this one's `timeout`."""
        has_warned = False
        while not interrupts and not self._study.is_done and self._study.other_active_process():
            if not has_warned:
                self._listener(Warned("waiting for the trials of other processes"))
                has_warned = True
            time.sleep(_POLL_SECONDS)
        jobs.reap()
        jobs.end_orphans()

    def _make_result(self, concluded: ConclusionResult, searched_at: float) -> TuneResult:
        name = self._study.name
        repeat = command_line("train", from_study=name, storage=self._storage.argument)
        return TuneResult(
            study=name,
            experiment=self._config.name,
            env_id=self._config.env.id,
            run_id=self._study_run.run_id,
            standing=standing_of(self._study),
            confirmed=concluded.confirmed,
            winner=concluded.winner,
            model=concluded.model,
            fresh_seed=report.first_unused_seed(self._study.definition),
            seconds=time.monotonic() - self._began,
            search_seconds=searched_at - self._began,
            hints={
                **self._study_run.hints,
                "repeat": repeat,
                "dashboard": self._storage.dashboard_command(name),
            },
        )

    def _make_interruption(self, interrupts: Interrupts) -> InterruptedRun:
        standing = standing_of(self._study)
        cause = interrupts.signal.name if interrupts.signal is not None else "the caller"
        progress = f"{standing.ended} of {standing.total} trials"
        if standing.ended >= standing.total:
            progress = "the search; its confirmation is not complete"
        arguments = dict(replace(self._options, study=self._study.name).arguments())
        if self._tracking_uri not in {None, AUTO}:
            arguments["tracking_uri"] = redact_passwords(self._tracking_uri or "")
        resume = command_line("tune", **arguments)
        return InterruptedRun(f"interrupted by {cause} after {progress}. To continue: {resume}")


def _define_study(config: Config, options: TuneOptions) -> StudyDefinition:
    """Return the definition of a search's study, with all of its values checked."""
    check_server_not_shared(config.replay.address, "a search")
    resolved, _ = resolve(config)
    # Trials may change what decides the other resolved values, such as the loop.
    config = config.model_copy(update={"network": resolved.network})
    space = make_space(config)
    _check_evaluations(config, space)
    reports_seeds = options.pruner == "wilcoxon"
    return StudyDefinition(config, space, options.seeds_per_trial, reports_seeds)


def _plan(definition: StudyDefinition, options: TuneOptions) -> StudyPlan:
    config, space = definition.config, definition.space
    grid = grid_points(space) if options.sampler == "grid" else []
    own_params, _ = space.params(config)
    if grid and own_params not in grid:
        grid.insert(0, own_params)
    reports = config.num_evaluations * options.seeds_per_trial
    pruner = make_pruner(options.pruner, reports, options.seeds_per_trial)
    sampler = partial(make_sampler, options.sampler, config.training.seed)
    sampler(0)  # raises for a missing package, before the study is made
    return StudyPlan(options.trials, sampler, pruner, grid, options.retrain_repeats)


def _new_name(config: Config) -> str:
    return f"{config.name}-{secrets.token_hex(2)}"


def _check_evaluations(config: Config, space: Space) -> None:
    """Check that the shortest training of the space has enough evaluations for a value."""
    key = "training.num_iterations"
    for value in space.values_to_check(key) or [config.training.num_iterations]:
        if space.configure(config, {key: value}).num_evaluations < _MIN_EVALUATIONS:
            raise ConfigError(
                f"evaluation.eval_interval={config.evaluation.eval_interval} gives one evaluation "
                f"in {key}={value}, and a trial's value needs several: lower the interval, for "
                "example to a tenth of the iterations"
            )
