"""The record of a study: its own run in MLflow, and where those of its trials stand."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dqnkit.config.sections import Config
from dqnkit.errors import InterruptedRun, StudyError
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts
from dqnkit.runs import descriptions
from dqnkit.tracking import make_parent_tracker
from dqnkit.tracking.recorded_run import STUDY_TAG
from dqnkit.tracking.tracker import KIND_TAG, RunRecord
from dqnkit.tuning import figures, results
from dqnkit.tuning.confirmation import Confirmed
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.study import RUN_ID, SharedStudy
from dqnkit.tuning.trial_jobs import standing

CHAMPION = "champion"
"""Alias of the registered model that a search's winner gets."""
STUDY_KIND = "study"
"""Of the run that stands for a search."""


def check_store(config: Config, tracking_uri: str | None) -> None:
    """Looks whether the store of runs could take a search and its champion.

    Raises:
      TrackingError: It could not.
    """
    make_parent_tracker(config, tracking_uri).check(config.name, CHAMPION)


class StudyRun:
    """What MLflow keeps of a search, on one start of it."""

    def __init__(self, study: SharedStudy, tracking_uri: str | None) -> None:
        self.tracking_uri = tracking_uri
        self.tracker = make_parent_tracker(study.purpose.config, tracking_uri)
        self.problems: list[str] = []
        """What could not be kept."""
        self._study = study
        self._confirmed: Sequence[Confirmed] = ()

    @contextlib.contextmanager
    def open(self, options: TuneOptions, interrupts: Interrupts) -> Iterator[None]:
        """The study's run, that of earlier starts if there is one; it ends with the true status."""
        purpose = self._study.purpose
        config = purpose.config
        searched = {f"search.{key}": value for key, value in purpose.space.as_dict().items()}
        how = {
            "tune.sampler": options.sampler,
            "tune.pruner": options.pruner,
            "tune.seeds_per_trial": purpose.seeds_per_trial,
        }
        kind = {KIND_TAG: STUDY_KIND, STUDY_TAG: self._study.name}
        record = RunRecord(
            experiment=config.name,
            run_name=self._study.name,
            params={**config.flat(), **searched, **how},
            tags={**descriptions.tags(config), **kind},
            description=results.opening(purpose),
            is_shared=True,
        )
        with self._study.locked():  # of two hosts that begin together one makes it
            self.tracker.start(replace(record, continues=self._study.recall(RUN_ID)))
            if self.tracker.run_id is not None:
                self._study.remember(RUN_ID, self.tracker.run_id)
        status = RunStatus.FAILED
        try:
            yield
            status = RunStatus.FINISHED
        except (InterruptedRun, KeyboardInterrupt):
            status = RunStatus.KILLED
            raise
        finally:
            with interrupts.held_off(), contextlib.ExitStack() as at_last:
                at_last.callback(lambda: self.problems.extend(self._close(status)))
                at_last.enter_context(contextlib.suppress(StudyError))
                self._summarize(has_winner=status is RunStatus.FINISHED)

    def _close(self, status: RunStatus) -> list[str]:
        """Ends the run, unless this process leaves a search that others go on with."""
        if status is RunStatus.FINISHED:
            return self.tracker.finish(status)
        try:
            other = self._study.another_at_work() or Lease(self._study.study, CONCLUSION).of_another
        except StudyError:  # the storage may be why it ends: whether others work is not known
            return self.tracker.leave(None)
        return self.tracker.leave(other) if other is not None else self.tracker.finish(status)

    def confirmed(self, ranked: Sequence[Confirmed]) -> None:
        """Takes note of what fresh seeds said, the best first."""
        self._confirmed = ranked

    def register(self, best: Confirmed) -> str | None:
        """Makes the winner's best policy the champion; its URI, if it is kept."""
        run_id, name = best.champion.run_id, best.config.name
        if run_id is None:
            return None
        tags = {
            "study": self._study.name,
            "trial": str(best.trial.number),
            "confirmed_iqm": f"{best.score.value:.6g}",
            "confirmed_interval": f"{best.score.low:.6g} to {best.score.high:.6g}",
            "fresh_seeds": str(best.scores.n),
        }
        version = self.tracker.register(run_id, name, CHAMPION, tags)
        return version and f"models:/{name}@{CHAMPION}"

    def keep(self, winner: str) -> None:
        """Keeps the winner as YAML, the trials as CSV, and the pictures."""
        if not self.tracker.keeps_files:
            return
        with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
            folder = Path(scratch)
            (folder / "best.yaml").write_text(winner, encoding="utf-8")
            results.write_trials(self._study, folder / "trials.csv")
            if self._confirmed:
                results.write_confirmed(self._confirmed, folder / "confirmation.csv")
            try:
                figures.draw(self._study.study, folder)
            except Exception as error:  # of three libraries; a picture must not cost a search
                self.problems.append(f"the pictures could not be drawn: {error}")
            self.tracker.artifacts(folder)

    def _summarize(self, *, has_winner: bool) -> None:
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
        self.tracker.log(metrics, now.ended)
        purpose = self._study.purpose
        self.tracker.describe(results.summary(purpose, now, self._confirmed, has_winner=has_winner))
