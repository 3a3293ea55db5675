"""The search from its first trial to its champion."""

from __future__ import annotations

import math
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dqnkit.commands import as_typed
from dqnkit.config import Config
from dqnkit.errors import ConfigError, InterruptedRun, StudyError
from dqnkit.resolution import resolve
from dqnkit.tracking import open_family_tracker
from dqnkit.tracking.records import STUDY_TAG
from dqnkit.tracking.tracker import KIND_TAG, RunRecord, Status
from dqnkit.training import descriptions
from dqnkit.training.interrupts import Interrupts, noticed
from dqnkit.tuning import pictures, results, space
from dqnkit.tuning.confirmation import Confirmation, Confirmed
from dqnkit.tuning.reporting import SilentTuneReporter, TuneReporter
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.samplers import (
    PrunerName,
    SamplerName,
    grid_points,
    make_pruner,
    make_sampler,
)
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.storage import resolve as resolve_storage
from dqnkit.tuning.study import (
    BEST,
    RUN_ID,
    Plan,
    Purpose,
    SharedStudy,
    find_purpose,
    find_unfinished,
    open_study,
)
from dqnkit.tuning.trials import Pruning, StudyRecord, TrialJobs, best_trials, standing
from dqnkit.workers.driver import drive
from dqnkit.workers.pool import Pool
from dqnkit.workers.training import check_number, worker_count

CHAMPION = "champion"
"""Alias of the registered model that a search's winner gets."""
STUDY_KIND = "study"
"""Of the run that stands for a search."""
_PRUNING = {"wilcoxon": Pruning.BY_SEED, "none": Pruning.NEVER}
_MAX_TRIALS = 1_000_000
_MAX_SEEDS = 100
_MAX_CONFIRM = 100


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How a search goes on.

    Raises:
      ConfigError: A number is out of its range.
    """

    trials: int = 50
    """Trials that are to end, complete or pruned, those of earlier starts included."""
    workers: int | None = None
    """Processes; None takes as many as there are cores."""
    study: str | None = None
    """Name of the study; None goes on with the last of this experiment that was interrupted, or
    begins one."""
    storage: str | None = None
    """URL of a database; None keeps the study under `mlruns/studies`."""
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "hyperband"
    timeout: float | None = None
    """Seconds after which no further trial is begun."""
    seeds_per_trial: int = 1
    """Trainings a trial; its value is the interquartile mean over them."""
    confirm: int = 3
    """Best trials that are trained again on fresh seeds; 0 leaves that out."""

    def __post_init__(self) -> None:
        check_number("--trials", self.trials, _MAX_TRIALS)
        check_number("--seeds-per-trial", self.seeds_per_trial, _MAX_SEEDS)
        check_number("--confirm", self.confirm, _MAX_CONFIRM, least=0)
        worker_count(self.workers)
        if self.timeout is not None and not 0 < self.timeout <= 1e9:
            raise ConfigError(f"--timeout {self.timeout}: give seconds, more than 0")


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
        self._tracker = open_family_tracker(self._config, tracking_uri)
        self._record = StudyRecord(self._tracker, tracking_uri)
        self._study = self._open(purpose)
        self._problems = purpose.space.params(self._config)[1]
        self._confirmed: list[Confirmed] = []

    def run(self, interrupts: Interrupts) -> TuneResult:
        """Searches, confirms and registers."""
        size = min(worker_count(self._options.workers), self._study.total)
        self._reporter.began(self._study.name, self._config.name, size, standing(self._study))
        for problem in self._problems:
            self._reporter.told(problem)
        with Pool(size) as pool, self._recorded(interrupts):
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
            champion = self._confirmed[0].champion
            winner = self._confirmed[0].config.with_seed(champion.seed)
            model = self._register(champion.run_id)
        text = results.explained_winner(winner, self._study, self._confirmed)
        self._keep(text)
        self._study.remember(BEST, text)
        return TuneResult(
            study=self._study.name,
            experiment=self._config.name,
            env_id=self._config.env.id,
            run_id=self._tracker.run_id,
            standing=standing(self._study),
            confirmed=tuple(self._confirmed),
            winner=winner,
            model=model,
            fresh_seed=results.fresh_seed(self._study.purpose),
            seconds=time.monotonic() - self._began,
            search_seconds=searched - self._began,
            hints={
                **self._tracker.hints(),
                "repeat": as_typed(f"dqnkit train --from-study {self._study.name}{self._where}"),
                "dashboard": self._storage.dashboard(self._study.name),
            },
            problems=self._problems,
        )

    def _register(self, run_id: str | None) -> str | None:
        if run_id is None:
            return None
        best = self._confirmed[0]
        tags = {
            "study": self._study.name,
            "trial": str(best.trial.number),
            "confirmed_iqm": f"{best.score.value:.6g}",
            "confirmed_interval": f"{best.score.low:.6g} to {best.score.high:.6g}",
            "fresh_seeds": str(best.scores.n),
        }
        version = self._tracker.register(run_id, self._config.name, CHAMPION, tags)
        return version and f"models:/{self._config.name}@{CHAMPION}"

    # -- The record

    @contextmanager
    def _recorded(self, interrupts: Interrupts) -> Iterator[None]:
        """The study's own run, which ends with the true status."""
        purpose = self._study.purpose
        searched = {f"search.{key}": value for key, value in purpose.space.as_dict().items()}
        self._tracker.start(
            RunRecord(
                experiment=self._config.name,
                run_name=self._study.name,
                params={
                    **self._config.flat(),
                    **searched,
                    "tune.sampler": self._options.sampler,
                    "tune.pruner": self._options.pruner,
                    "tune.seeds_per_trial": purpose.seeds_per_trial,
                },
                tags={
                    **descriptions.tags(self._config),
                    KIND_TAG: STUDY_KIND,
                    STUDY_TAG: self._study.name,
                },
                description=results.opening(purpose),
                continues=self._study.recall(RUN_ID),
            )
        )
        self._study.remember(RUN_ID, self._tracker.run_id)
        status = Status.FAILED
        try:
            yield
            status = Status.FINISHED
        except (InterruptedRun, KeyboardInterrupt):
            status = Status.KILLED
            raise
        finally:
            with interrupts.held_off():
                self._describe()
                self._problems += self._tracker.finish(status)

    def _describe(self) -> None:
        now = standing(self._study)
        metrics = {
            "study/complete": float(now.complete),
            "study/pruned": float(now.pruned),
            "study/failed": float(now.failed),
        }
        if now.best is not None:
            metrics["study/best_value"] = now.best.value
        if self._confirmed:
            value, low, high = self._confirmed[0].score
            metrics |= {
                "study/confirmed_iqm": value,
                "study/confirmed_ci_low": low,
                "study/confirmed_ci_high": high,
            }
        self._tracker.log(metrics, now.ended)
        self._tracker.describe(results.summary(self._study.purpose, now, self._confirmed))

    def _keep(self, winner: str) -> None:
        """Writes what a study leaves in files."""
        if not self._tracker.keeps_files:
            return
        with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
            folder = Path(scratch)
            (folder / "best.yaml").write_text(winner, encoding="utf-8")
            results.write_trials(self._study, folder / "trials.csv")
            if self._confirmed:
                results.write_confirmed(self._confirmed, folder / "confirmation.csv")
            pictures.draw(self._study.study, folder)
            self._tracker.artifacts(folder)

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
        again = (
            f"dqnkit tune --study {self._study.name} --trials {self._options.trials}{self._where}"
        )
        return InterruptedRun(f"interrupted by {by} after {done}. Go on with: {as_typed(again)}")


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
