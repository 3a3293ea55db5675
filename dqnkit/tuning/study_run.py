"""The run of a study in MLflow: parent of the runs of its trials and of its confirmation."""

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
from dqnkit.tracking.editor import make_run_editor
from dqnkit.tracking.names import CHAMPION, STUDY, Artifact, Kind, Tag
from dqnkit.tracking.tracker import RunRecord, make_tracker
from dqnkit.tuning import figures, report
from dqnkit.tuning.confirmed import Confirmed
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.standing import standing_of
from dqnkit.tuning.study import RUN_ID, SharedStudy


def check_store(config: Config, tracking_uri: str | None) -> None:
    """Check that the store can take the runs of a search and its champion.

    Raises:
      TrackingError: If it cannot.
    """
    make_run_editor(config, tracking_uri).check(config.name, CHAMPION)


class StudyRun:
    """The run of a study, during one start of the search."""

    def __init__(self, study: SharedStudy, tracking_uri: str | None) -> None:
        config = study.definition.config
        self.tracking_uri = tracking_uri
        self.editor = make_run_editor(config, tracking_uri)
        """Changes runs of the study by id."""
        self._tracker = make_tracker(config, tracking_uri)
        self._study = study
        self._confirmed: Sequence[Confirmed] = ()
        self._problems: list[str] = []

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the study's run, once open."""
        return self._tracker.run_id

    @property
    def hints(self) -> dict[str, str]:
        """Where to look at the record."""
        return self._tracker.hints()

    @property
    def problems(self) -> list[str]:
        """Descriptions of what could not be recorded."""
        return self._problems + self.editor.problems

    def take_over(self) -> None:
        """Make this process the owner of the run, whose owner may have died."""
        self._tracker.take_over()

    @contextlib.contextmanager
    def open(self, options: TuneOptions, interrupts: Interrupts) -> Iterator[None]:
        """Open the study's run, or that of an earlier start, and close it with the true status."""
        record = self._describe_run(options)
        with self._study.locked():  # two hosts that start together make one run
            self._tracker.start(replace(record, continues=self._study.recall(RUN_ID)))
            if self.run_id is not None:
                self._study.remember(RUN_ID, self.run_id)
        status = RunStatus.FAILED
        try:
            yield
            status = RunStatus.FINISHED
        except (InterruptedRun, KeyboardInterrupt):
            status = RunStatus.KILLED
            raise
        finally:
            with interrupts.deferred(), contextlib.ExitStack() as stack:
                stack.callback(lambda: self._problems.extend(self._close(status)))
                stack.enter_context(contextlib.suppress(StudyError))
                self._summarize(has_winner=status is RunStatus.FINISHED)

    def set_confirmed(self, ranked: Sequence[Confirmed]) -> None:
        """Set the confirmed trials, best first."""
        self._confirmed = ranked

    def register(self, best: Confirmed) -> str | None:
        """Register the winner's best policy as the champion; return its URI if that worked."""
        run_id, model = best.champion.run_id, best.config.name
        if run_id is None:
            return None
        tags = {
            "study": self._study.name,
            "trial": str(best.trial.number),
            "confirmed_iqm": f"{best.score.value:.6g}",
            "confirmed_interval": f"{best.score.low:.6g} to {best.score.high:.6g}",
            "fresh_seeds": str(best.scores.n),
        }
        version = self.editor.register(run_id, model, CHAMPION, tags)
        return version and f"models:/{model}@{CHAMPION}"

    def add_files(self, winner: str) -> None:
        """Add the winner as YAML, the trials as CSV, and the figures."""
        if not self._tracker.keeps_files:
            return
        with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
            folder = Path(scratch)
            (folder / Artifact.BEST_CONFIG).write_text(winner, encoding="utf-8")
            report.write_trials(self._study, folder / Artifact.TRIALS)
            if self._confirmed:
                report.write_confirmed(self._confirmed, folder / Artifact.CONFIRMATION)
            try:
                figures.draw(self._study.study, folder)
            except Exception as error:  # from three libraries; a figure must not cost a search
                self._problems.append(f"the figures could not be drawn: {error}")
            self._tracker.add_artifacts(folder)

    def _describe_run(self, options: TuneOptions) -> RunRecord:
        definition = self._study.definition
        config = definition.config
        searched = {f"search.{key}": value for key, value in definition.space.as_dict().items()}
        how = {
            "tune.sampler": options.sampler,
            "tune.pruner": options.pruner,
            "tune.seeds_per_trial": definition.seeds_per_trial,
        }
        return RunRecord(
            experiment=config.name,
            run_name=self._study.name,
            params={**config.flat(), **searched, **how},
            tags=descriptions.tags(config) | {Tag.KIND: Kind.STUDY, Tag.STUDY: self._study.name},
            description=report.opening(definition),
            is_shared=True,
        )

    def _close(self, status: RunStatus) -> list[str]:
        """End the run, unless this process leaves a search that others continue."""
        self.editor.end_stale()  # runs of workers that were killed
        if status is RunStatus.FINISHED:
            return self._tracker.finish(status)
        try:
            lease = Lease(self._study.study, CONCLUSION)
            other = self._study.another_at_work() or lease.other_holder
        except StudyError:  # the storage may be the reason, so that other processes are unknown
            return self._tracker.hand_over(None)
        if other is not None:
            return self._tracker.hand_over(other)
        return self._tracker.finish(status)

    def _summarize(self, *, has_winner: bool) -> None:
        standing = standing_of(self._study)
        metrics = {
            f"{STUDY}/complete": float(standing.complete),
            f"{STUDY}/pruned": float(standing.pruned),
            f"{STUDY}/failed": float(standing.failed),
        }
        if standing.best is not None:
            metrics[f"{STUDY}/best_value"] = standing.best.value
        if self._confirmed:
            value, low, high = self._confirmed[0].score
            metrics |= {
                f"{STUDY}/confirmed_iqm": value,
                f"{STUDY}/confirmed_ci_low": low,
                f"{STUDY}/confirmed_ci_high": high,
            }
        self._tracker.log(metrics, standing.ended)
        definition = self._study.definition
        self._tracker.describe(
            report.summary(definition, standing, self._confirmed, has_winner=has_winner)
        )
