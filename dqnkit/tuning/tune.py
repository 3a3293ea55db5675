"""The search from its first trial to its champion."""

from __future__ import annotations

import math
import secrets
import shlex
import time
from dataclasses import replace

from dqnkit.commands import as_typed
from dqnkit.config import Config
from dqnkit.errors import ConfigError, InterruptedRun, StudyError
from dqnkit.resolution import resolve
from dqnkit.tracking.tracker import Status
from dqnkit.training.interrupts import Interrupts, noticed
from dqnkit.tuning import results, space
from dqnkit.tuning.confirmation import Confirmation, Confirmed
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.record import StudyRecord
from dqnkit.tuning.reporting import SilentTuneReporter, TuneReporter
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.samplers import (
    grid_points,
    make_pruner,
    make_sampler,
)
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.storage import resolve as resolve_storage
from dqnkit.tuning.study import (
    BEST,
    Plan,
    Purpose,
    SharedStudy,
    find_purpose,
    find_unfinished,
    open_study,
)
from dqnkit.tuning.trials import Pruning, TrialJobs, best_trials, standing
from dqnkit.workers.driver import drive
from dqnkit.workers.pool import Pool
from dqnkit.workers.training import worker_count

_PRUNING = {"wilcoxon": Pruning.BY_SEED, "none": Pruning.NEVER}


DEFAULT_OPTIONS = TuneOptions()


def tune(
    config: Config,
    options: TuneOptions = DEFAULT_OPTIONS,
    *,
    tracking_uri: str | None = None,
    reporter: TuneReporter | None = None,
) -> TuneResult:
    """Searches, confirms what it found on fresh seeds, and registers the winner.

    Args:
      config: The experiment; `search` says what may change, and its own values are trial 0.
      options: How.
      tracking_uri: The store of runs; see `dqnkit.tracking.store.resolve`.
      reporter: Hears of progress.

    Raises:
      ConfigError: The experiment, the space or an option is wrong, or the study was made for
        something else; nothing was trained.
      TrackingError: The store of runs cannot be reached.
      StudyError: The storage of studies cannot be reached, or trials fail one after another.
      WorkerError: Workers cannot be started.
      InterruptedRun: A signal came; the same call goes on.
    """
    search = _Search(config, options, tracking_uri, reporter or SilentTuneReporter())
    with noticed() as interrupts:
        return search.run(interrupts)


def stored_experiment(study: str, storage: str | None = None) -> Config | None:
    """The experiment that a study was made for; None if there is no such study."""
    purpose = find_purpose(resolve_storage(storage), study)
    if purpose is None:
        return None
    return purpose.config.model_copy(update={"search": dict(purpose.space.distributions)})


class _Search:
    """One start of a search."""

    def __init__(
        self, config: Config, options: TuneOptions, tracking_uri: str | None, reporter: TuneReporter
    ) -> None:
        """Checks all that can be checked, and opens the study."""
        self._options = options
        self._reporter = reporter
        self._began = time.monotonic()
        self._config, _ = resolve(config)
        _check_evaluations(self._config)
        purpose = Purpose(self._config, space.of(self._config), options.seeds_per_trial)
        self._storage = resolve_storage(options.storage)
        self._study = self._open(purpose)
        self._record = StudyRecord(self._study, tracking_uri)
        self._problems = purpose.space.params(self._config)[1]
        self._confirmed: list[Confirmed] = []

    def run(self, interrupts: Interrupts) -> TuneResult:
        """Searches, confirms and registers."""
        size = min(worker_count(self._options.workers), self._study.total)
        self._reporter.began(self._study.name, self._config.name, size, standing(self._study))
        for problem in self._problems:
            self._reporter.told(problem)
        with Pool(size) as pool, self._record.open(self._options, interrupts):
            self._search(pool, interrupts)
            searched = time.monotonic()
            if not interrupts:
                self._confirm(pool, interrupts)
            if interrupts:
                raise self._interruption(interrupts)
            return self._conclude(searched)

    # -- The study

    def _open(self, purpose: Purpose) -> SharedStudy:
        options = self._options
        points = grid_points(purpose.space) if options.sampler == "grid" else []
        total = options.trials
        if points:
            own, _ = purpose.space.params(self._config)
            total = min(total, len(points) + (own not in points))
        name = options.study or self._name(self._storage, purpose)
        pruner = make_pruner(
            options.pruner, _reports(self._config, options), options.seeds_per_trial
        )
        seed = self._config.training.seed
        sampler = make_sampler(options.sampler, seed, 0)
        study = open_study(self._storage, name, purpose, Plan(total, sampler, pruner, points))
        begun = len(study.trials())
        if begun > 1:  # what is drawn must not be what was drawn before
            study.study.sampler = make_sampler(options.sampler, seed, begun)
        return study

    def _name(self, storage: StudyStorage, purpose: Purpose) -> str:
        unfinished = find_unfinished(storage, purpose)
        return unfinished or f"{purpose.config.name}-{secrets.token_hex(2)}"

    # -- Its parts

    def _search(self, pool: Pool, interrupts: Interrupts) -> None:
        timeout = self._options.timeout
        pruning = _PRUNING.get(self._options.pruner, Pruning.BY_EVALUATION)
        deadline = math.inf if timeout is None else self._began + timeout
        jobs = TrialJobs(self._study, self._record, self._reporter, pruning, deadline)
        jobs.reap()
        try:
            drive(pool, jobs, self._reporter, interrupts)
        finally:
            if pool.busy:
                pool.close(at_once=True)
            jobs.abandon()
            self._problems += jobs.problems

    def _confirm(self, pool: Pool, interrupts: Interrupts) -> None:
        candidates = best_trials(self._study, self._options.confirm)
        if not candidates:
            return
        confirmation = Confirmation(self._study, candidates, self._record)
        self._reporter.confirming(candidates, confirmation.seeds)
        status = Status.FAILED
        try:
            drive(pool, confirmation.jobs, self._reporter, interrupts)
            status = Status.KILLED
        finally:
            if pool.busy:
                pool.close(at_once=True)
            confirmation.jobs.close(status)
            self._problems += confirmation.jobs.problems + confirmation.jobs.failures
        self._confirmed = confirmation.ranked()
        self._record.confirmed(self._confirmed)

    def _conclude(self, searched: float) -> TuneResult:
        best = best_trials(self._study, 1)
        if not best:
            raise StudyError(
                f"no trial of the study {self._study.name!r} is complete, so there is no winner: "
                "give more --trials or a longer --timeout, or --pruner none"
            )
        winner = self._study.configuration(best[0].number)
        model = None
        if self._confirmed:
            first = self._confirmed[0]
            winner = first.config.with_seed(first.champion.seed)
            model = self._record.register(first)
        text = results.explained_winner(winner, self._study, self._confirmed)
        self._record.keep(text)
        self._study.remember(BEST, text)
        return TuneResult(
            study=self._study.name,
            experiment=self._config.name,
            env_id=self._config.env.id,
            run_id=self._record.tracker.run_id,
            standing=standing(self._study),
            confirmed=tuple(self._confirmed),
            winner=winner,
            model=model,
            fresh_seed=results.fresh_seed(self._study.purpose),
            seconds=time.monotonic() - self._began,
            search_seconds=searched - self._began,
            hints={
                **self._record.tracker.hints(),
                "repeat": as_typed(f"dqnkit train --from-study {self._study.name}{self._where}"),
                "dashboard": self._storage.dashboard(self._study.name),
            },
            problems=self._problems + self._record.problems,
        )

    @property
    def _where(self) -> str:
        """The option that finds the study again; a password must be given anew."""
        return f" --storage {shlex.quote(self._storage.place)}" if self._storage.url else ""

    def _interruption(self, interrupts: Interrupts) -> InterruptedRun:
        now = standing(self._study)
        by = interrupts.signal.name if interrupts.signal is not None else "its caller"
        done = f"{now.ended} of {now.total} trials"
        if now.ended >= now.total:
            done = "the search; its confirmation is not complete"
        options = replace(self._options, study=self._study.name)
        again = as_typed(f"dqnkit tune {shlex.join(options.arguments())}")
        return InterruptedRun(f"interrupted by {by} after {done}. Go on with: {again}")


def _check_evaluations(config: Config) -> None:
    count = -(-config.training.num_iterations // config.evaluation.eval_interval)
    if count < 2:
        raise ConfigError(
            f"evaluation.eval_interval={config.evaluation.eval_interval} gives one evaluation in "
            f"training.num_iterations={config.training.num_iterations}, and a trial's value needs "
            "several: lower the interval, for example to a tenth of the iterations"
        )


def _reports(config: Config, options: TuneOptions) -> int:
    evaluations = -(-config.training.num_iterations // config.evaluation.eval_interval)
    return evaluations * options.seeds_per_trial
