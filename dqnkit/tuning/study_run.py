"""The run of a study in MLflow: parent of the runs of its trials and of its confirmation."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dqnkit.config.sections import Config
from dqnkit.errors import InterruptedRun, StudyError
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts
from dqnkit.runs import descriptions
from dqnkit.tracking.editor import make_run_editor
from dqnkit.tracking.factory import make_tracker
from dqnkit.tracking.location import locate_optional_store
from dqnkit.tracking.names import CHAMPION, STUDY, Artifact, RunKind, Tag
from dqnkit.tracking.tracker import RunHeader
from dqnkit.tuning import figures, report
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.confirmed_trial import ConfirmedTrial
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.promotion import Candidate
from dqnkit.tuning.space import Space
from dqnkit.tuning.standing import Standing, standing_of
from dqnkit.tuning.study import SharedStudy

_CHAMPION_COLOR = "#d4a017"
"""Gold, in the UI's charts."""


def check_store(config: Config, tracking_uri: str | None) -> None:
    """Check that the store can keep the runs of a search and its champion.

    Raises:
      TrackingError: If it cannot.
    """
    make_run_editor(config, tracking_uri).check(config.name, CHAMPION)


class StudyRun:
    """The run of a study, during one start of the search."""

    def __init__(self, study: SharedStudy, tracking_uri: str | None) -> None:
        """Make the run; nothing is recorded before `open`.

        Args:
          study: The study.
          tracking_uri: URI of the store; None records nothing.
        """
        config = study.definition.config
        self.tracking_uri = tracking_uri
        self.editor = make_run_editor(config, tracking_uri)
        """Changes runs of the study by id."""
        self._tracker = make_tracker(config, locate_optional_store(tracking_uri))
        self._study = study
        self._confirmed: Sequence[ConfirmedTrial] = ()
        self._problems: list[str] = []

    @property
    def space(self) -> Space:
        """The search space."""
        return self._study.definition.space

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the study's run, once open; None if it is not recorded."""
        return self._tracker.run_id

    @property
    def hints(self) -> dict[str, str]:
        """Commands and addresses that show the record."""
        return self._tracker.hints(study=self._study.name)

    @property
    def problems(self) -> list[str]:
        """Descriptions of what could not be recorded."""
        return self._problems + self.editor.problems

    def take_over(self) -> None:
        """Make this process the owner of the run, whose owner may have died."""
        self._tracker.take_over()

    @contextlib.contextmanager
    def open(self, options: TuneOptions, interrupts: Interrupts) -> Iterator[None]:
        """Open the study's run, or that of an earlier start, and close it with the true status.

        Args:
          options: Options of the search, to record.
          interrupts: Requests to end the search, deferred while the record is closed.

        Raises:
          TrackingError: If the store cannot be used.
        """
        header = self._describe_run(options)
        with self._study.lock():  # two hosts that start together make one run
            continues = self._study.get_attr(StudyAttr.RUN_ID)
            self._tracker.start(replace(header, continues=continues))
            if self.run_id is not None:
                self._study.set_attr(StudyAttr.RUN_ID, self.run_id)
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

    def set_confirmed(self, ranked: Sequence[ConfirmedTrial]) -> None:
        """Set the confirmed trials, best first."""
        self._confirmed = ranked

    def register(
        self, best: ConfirmedTrial, *, promote: bool | None = None
    ) -> tuple[str | None, str | None]:
        """Register the winner's best policy, as the champion if it is better than the one so far.

        Args:
          best: The winner.
          promote: True or False makes it the champion, or does not, whatever the scores are.

        Returns:
          Its URI, None if it could not be registered; and a sentence on a champion before it.
        """
        run_id, model = best.champion.run_id, best.config.name
        if run_id is None:
            return None, None
        candidate = Candidate(best.config.env.id, *best.score)
        tags = {
            "study": self._study.name,
            "trial": str(best.trial.number),
            "fresh_seeds": str(best.scores.n),
            **candidate.tags,
        }
        may_replace = partial(candidate.may_replace, promote=promote)
        made = self.editor.register(run_id, model, CHAMPION, tags, may_replace)
        if made is None:
            return None, None
        if made.has_alias:
            self.editor.mark(run_id, {Tag.COLOR: _CHAMPION_COLOR})
        uri = f"models:/{model}" + (f"@{CHAMPION}" if made.has_alias else f"/{made.version}")
        if made.other is None:
            return uri, None
        return uri, candidate.explain(made.other, is_promoted=made.has_alias)

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
            except Exception as error:  # of three libraries; a figure must not end a search
                self._problems.append(f"the figures could not be drawn: {error}")
            self._tracker.add_artifacts(folder)

    def _describe_run(self, options: TuneOptions) -> RunHeader:
        definition = self._study.definition
        config = definition.config
        space = {f"search.{key}": value for key, value in definition.space.as_dict().items()}
        chosen = {
            "tune.sampler": options.sampler,
            "tune.pruner": options.pruner,
            "tune.seeds_per_trial": definition.seeds_per_trial,
        }
        return RunHeader(
            experiment=config.name,
            run_name=self._study.name,
            params={**config.flat(), **space, **chosen},
            tags=descriptions.tags(config) | {Tag.KIND: RunKind.STUDY, Tag.STUDY: self._study.name},
            description=report.opening(definition),
            is_shared=True,
        )

    def _close(self, status: RunStatus) -> list[str]:
        """End the run, or leave it open if the search ends here and other processes continue it."""
        self.editor.end_stale()  # runs of workers that were killed
        if status is RunStatus.FINISHED:
            return self._tracker.finish(status)
        try:
            lease = Lease(self._study.study, CONCLUSION)
            other = self._study.other_active_process() or lease.other_holder
        except StudyError:  # perhaps the reason for the end; other processes are unknown
            return self._tracker.hand_over(None)
        if other is not None:
            return self._tracker.hand_over(other)
        return self._tracker.finish(status)

    def _summarize(self, *, has_winner: bool) -> None:
        standing = standing_of(self._study)
        self._tracker.log(_metrics(standing, self._confirmed), standing.ended)
        definition = self._study.definition
        self._tracker.describe(
            report.summary(definition, standing, self._confirmed, has_winner=has_winner)
        )


def _metrics(standing: Standing, confirmed: Sequence[ConfirmedTrial]) -> dict[str, float]:
    metrics = {
        f"{STUDY}/complete": float(standing.complete),
        f"{STUDY}/pruned": float(standing.pruned),
        f"{STUDY}/failed": float(standing.failed),
    }
    if standing.best is not None:
        metrics[f"{STUDY}/best_value"] = standing.best.value
    if confirmed:
        value, low, high = confirmed[0].score
        metrics |= {
            f"{STUDY}/confirmed_iqm": value,
            f"{STUDY}/confirmed_ci_low": low,
            f"{STUDY}/confirmed_ci_high": high,
        }
    return metrics
