"""The search from its first trial to its champion."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import replace
from functools import partial

from dqnkit._system.commands import command_line
from dqnkit._system.extras import check_server_not_shared
from dqnkit._system.redaction import redact_passwords
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, InterruptedRun
from dqnkit.events import Listener, SearchStarted, Warned, ignore
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.tracking.location import AUTO
from dqnkit.tuning import report, space
from dqnkit.tuning.conclusion import Concluded, Conclusion
from dqnkit.tuning.confirmed import SEEDS
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.samplers import (
    grid_points,
    make_pruner,
    make_sampler,
)
from dqnkit.tuning.standing import standing_of
from dqnkit.tuning.storage import StudyStorage, check_name, locate_storage
from dqnkit.tuning.study import (
    StudyDefinition,
    StudyPlan,
    find_definition,
    find_unfinished,
    open_study,
)
from dqnkit.tuning.study_run import StudyRun, check_store
from dqnkit.tuning.trial_jobs import Pruning, TrialJobs
from dqnkit.workers.dispatcher import run_jobs
from dqnkit.workers.placement import make_workplace
from dqnkit.workers.pool import WorkerPool

_LOOK_SECONDS = 1.0
_PRUNING = {"wilcoxon": Pruning.BY_SEED, "none": Pruning.NEVER}


DEFAULT_OPTIONS = TuneOptions()


def tune(
    config: Config,
    options: TuneOptions = DEFAULT_OPTIONS,
    *,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> TuneResult:
    """Searches, confirms what it found on fresh seeds, and registers the winner.

    Args:
      config: The experiment; `search` says what may change, and its own values are trial 0.
      options: How.
      tracking_uri: The store of runs; see `dqnkit.tracking.location.resolve`.
      listener: Receives the events of the search and of its runs.

    Raises:
      ConfigError: The experiment, the space or an option is wrong, or the study was made for
        something else; nothing was trained.
      TrackingError: The store of runs cannot be reached.
      StudyError: The storage of studies cannot be reached, or trials fail one after another.
      WorkerError: Workers cannot be started.
      InterruptedRun: A signal came; the same call goes on.
    """
    interrupts = Interrupts()
    storage = locate_storage(options.storage, lambda: bool(interrupts))
    search = _Search(config, options, storage, tracking_uri, listener)
    with catch_signals(interrupts):
        return search.run(interrupts)


def stored_experiment(study: str, storage: str | None = None) -> Config | None:
    """The experiment that a study was made for; None if there is no such study."""
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
        """Checks all that can be checked, and opens the study."""
        self._options = options
        self._listener = listener
        self._began = time.monotonic()
        check_server_not_shared(config.replay.address, "a search")
        resolved, _ = resolve(config)
        # A trial may change what decides the rest: the loop, the range of returns.
        self._config = config.model_copy(update={"network": resolved.network})
        self._tracking_uri = tracking_uri
        searched = space.of(self._config)
        _check_evaluations(self._config, searched)
        by_seed = options.pruner == "wilcoxon"
        definition = StudyDefinition(self._config, searched, options.seeds_per_trial, by_seed)
        self._storage = storage
        plan = self._plan(definition)
        name = options.study or self._name(storage, definition)
        check_name(name)
        check_store(self._config, tracking_uri)  # before the study is made
        self._workplace = make_workplace(options.placement, tracking_uri)
        try:
            self._study = open_study(storage, name, definition, plan)
        except BaseException:
            self._workplace.launcher.close()
            raise
        self._record = StudyRun(self._study, self._workplace.tracking_uri)
        self._problems = definition.space.params(self._config)[1]

    def run(self, interrupts: Interrupts) -> TuneResult:
        """Searches, confirms and registers."""
        options = self._options
        runs = max(self._study.total, options.confirm * SEEDS)
        size = min(options.workers or self._workplace.capacity, runs)
        self._listener(
            SearchStarted(self._study.name, self._config.name, size, standing_of(self._study))
        )
        for problem in self._problems:
            self._listener(Warned(problem))
        launcher = self._workplace.launcher
        with WorkerPool(size, launcher=launcher) as pool, self._record.open(options, interrupts):
            jobs = self._search(pool, interrupts)
            self._wait_for_others(jobs, interrupts)
            searched = time.monotonic()
            conclusion = Conclusion(self._study, self._record, self._listener, options.confirm)
            try:
                concluded = conclusion.run(pool, interrupts)
            finally:
                self._problems += conclusion.problems
            if concluded is None:
                raise self._interruption(interrupts)
            result = self._result(concluded, searched)
        # What the record could not keep is known when it is closed.
        return replace(result, problems=self._problems + self._record.problems)

    # -- The study

    def _plan(self, definition: StudyDefinition) -> StudyPlan:
        options = self._options
        points = grid_points(definition.space) if options.sampler == "grid" else []
        own, _ = definition.space.params(self._config)
        if points and own not in points:
            points.insert(0, own)
        reports = self._config.num_evaluations * options.seeds_per_trial
        pruner = make_pruner(options.pruner, reports, options.seeds_per_trial)
        sampler = partial(make_sampler, options.sampler, self._config.training.seed)
        sampler(0)  # a package that is missing is told before the study is made
        return StudyPlan(options.trials, sampler, pruner, points)

    def _name(self, storage: StudyStorage, definition: StudyDefinition) -> str:
        unfinished = find_unfinished(storage, definition)
        return unfinished or f"{definition.config.name}-{secrets.token_hex(2)}"

    # -- Its parts

    def _search(self, pool: WorkerPool, interrupts: Interrupts) -> TrialJobs:
        timeout = self._options.timeout
        pruning = _PRUNING.get(self._options.pruner, Pruning.BY_EVALUATION)
        deadline = math.inf if timeout is None else self._began + timeout
        jobs = TrialJobs(self._study, self._record, self._listener, pruning, deadline)
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
        """Until nobody runs a trial: after a `timeout` of ours others may still search."""
        told = False
        while not interrupts and not self._study.is_done and self._study.another_at_work():
            if not told:
                self._listener(Warned("waiting for the trials of other processes"))
                told = True
            time.sleep(_LOOK_SECONDS)
        jobs.reap()
        jobs.end_orphans()

    def _result(self, concluded: Concluded, searched: float) -> TuneResult:
        return TuneResult(
            study=self._study.name,
            experiment=self._config.name,
            env_id=self._config.env.id,
            run_id=self._record.run_id,
            standing=standing_of(self._study),
            confirmed=concluded.confirmed,
            winner=concluded.winner,
            model=concluded.model,
            fresh_seed=report.fresh_seed(self._study.definition),
            seconds=time.monotonic() - self._began,
            search_seconds=searched - self._began,
            hints={
                **self._record.hints,
                "repeat": command_line(
                    "train",
                    from_study=self._study.name,
                    storage=self._storage.place if self._storage.url else None,
                ),
                "dashboard": self._storage.dashboard(self._study.name),
            },
        )

    def _interruption(self, interrupts: Interrupts) -> InterruptedRun:
        now = standing_of(self._study)
        by = interrupts.signal.name if interrupts.signal is not None else "its caller"
        done = f"{now.ended} of {now.total} trials"
        if now.ended >= now.total:
            done = "the search; its confirmation is not complete"
        arguments = dict(replace(self._options, study=self._study.name).arguments())
        if self._tracking_uri not in {None, AUTO}:
            arguments["tracking_uri"] = redact_passwords(self._tracking_uri or "")
        again = command_line("tune", **arguments)
        return InterruptedRun(f"interrupted by {by} after {done}. Go on with: {again}")


def _check_evaluations(config: Config, searched: space.Space) -> None:
    """Refuses trainings with too few evaluations, the shortest of the space included."""
    key = "training.num_iterations"
    for value in searched.ends(key) or [config.training.num_iterations]:
        if searched.configure(config, {key: value}).num_evaluations < 2:
            raise ConfigError(
                f"evaluation.eval_interval={config.evaluation.eval_interval} gives one evaluation "
                f"in {key}={value}, and a trial's value needs several: lower the interval, for "
                "example to a tenth of the iterations"
            )
