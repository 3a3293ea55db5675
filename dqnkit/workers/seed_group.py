"""One configuration trained with several seeds: the results, and the parent run in MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from dqnkit.analysis.groups import pooled_curve
from dqnkit.config import loading
from dqnkit.config.fingerprint import SEED
from dqnkit.config.sections import Config
from dqnkit.evaluation import plots
from dqnkit.evaluation.aggregates import Estimate, estimate
from dqnkit.evaluation.formatting import format_interval, format_number, markdown_table
from dqnkit.events import RunStatus
from dqnkit.runs import descriptions
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.editor import make_run_editor
from dqnkit.tracking.factory import make_tracker
from dqnkit.tracking.location import AUTO, locate_optional_store
from dqnkit.tracking.names import POOLED_BAND, Artifact, Metric, RunKind, Tag
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.tracker import NO_PARENT, ParentRun, RunHeader


@dataclass(frozen=True)
class SeedResult:
    """Result of one seed."""

    seed: int
    run_id: str | None
    late_iqm: float
    """Interquartile mean of the episodes of the last evaluations (`late_episodes`)."""
    final_mean: float
    """Mean return of the best policy on fresh episodes."""
    final_iqm: float
    """Interquartile mean of these returns."""
    steps_per_second: float
    seconds: float
    curve: tuple[tuple[int, float], ...]
    """Environment steps and mean return of each evaluation."""

    @classmethod
    def from_run(cls, seed: int, result: TrainResult) -> Self:
        """Return the result of a seed from that of its run.

        Raises:
          ValueError: If the run was interrupted.
        """
        if result.final is None:
            raise ValueError(f"the run {result.run_name!r} was interrupted and has no final score")
        return cls(
            seed=seed,
            run_id=result.run_id,
            late_iqm=result.late.summary.iqm,
            final_mean=result.final.summary.mean,
            final_iqm=result.final.summary.iqm,
            steps_per_second=result.steps_per_second,
            seconds=result.seconds,
            curve=tuple((each.env_steps, each.summary.mean) for each in result.evaluations),
        )

    @classmethod
    def from_record(cls, run: RecordedRun, curve: Sequence[tuple[int, float]]) -> Self:
        """Return the result of a seed from the record of its finished run.

        Args:
          run: The run.
          curve: Environment steps and mean return of each evaluation.
        """
        metrics = run.metrics
        return cls(
            seed=int(run.params[SEED]),
            run_id=run.id,
            late_iqm=metrics[Metric.LATE_IQM],
            final_mean=metrics[Metric.FINAL_MEAN],
            final_iqm=metrics[Metric.FINAL_IQM],
            steps_per_second=metrics[Metric.STEPS_PER_SECOND],
            seconds=metrics[Metric.TOTAL_SECONDS],
            curve=tuple(curve),
        )

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> SeedResult:
        """Return the result from a document of `as_dict`.

        Raises:
          ValueError: If the document has another structure.
        """
        return _SEED_RESULT.validate_python(document)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return asdict(self)


_SEED_RESULT = TypeAdapter(SeedResult)


@dataclass(frozen=True)
class SeedScores:
    """Aggregates over seeds, each of which contributes one value."""

    n: int
    """Number of seeds."""
    late: Estimate
    """Score of the configuration at the end of training."""
    final: Estimate
    """Score of the best policies on fresh episodes."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {"n": self.n, "late": self.late._asdict(), "final": self.final._asdict()}


def aggregate(results: Sequence[SeedResult]) -> SeedScores:
    """Return interquartile means over seeds, with 95 % bootstrap intervals over the seeds."""
    return SeedScores(
        len(results),
        estimate(np.array([each.late_iqm for each in results])),
        estimate(np.array([each.final_mean for each in results])),
    )


@dataclass(frozen=True)
class GroupRecord:
    """Place of a group of seeds in an MLflow store."""

    tracking_uri: str | None = AUTO
    """URI of the store; None records nothing."""
    parent: ParentRun = NO_PARENT
    """Parent of the group's run, with tags for that run and those of the seeds."""
    kind: RunKind = RunKind.SEEDS
    """Kind of the group's run."""
    continues: str | None = None
    """Id of an interrupted group's run to continue; None begins a new one."""


class SeedGroup:
    """The parent run of one configuration with several seeds, while they train."""

    def __init__(
        self, config: Config, name: str, seeds: Sequence[int], record: GroupRecord
    ) -> None:
        """Make a group; nothing is recorded before `start`.

        Args:
          config: The resolved configuration, whose own seed is ignored.
          name: Name of the parent run.
          seeds: Seeds of the runs below it.
          record: Place of the group in the store.
        """
        self.config = config
        self.name = name
        self.seeds = seeds
        self.results: list[SeedResult] = []
        self.unfinished: dict[int, str] = {}
        """Ids of interrupted runs to continue, by seed."""
        self._record = record
        store = locate_optional_store(record.tracking_uri)
        self._tracker = make_tracker(config, store, record.parent)
        self._editor = make_run_editor(config, record.tracking_uri)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the group's run; None before `start`, or if nothing is recorded."""
        return self._tracker.run_id

    @property
    def hints(self) -> dict[str, str]:
        """Commands and addresses that show the record, by label."""
        return self._tracker.hints(run=self.name)

    def how_to_resume(self) -> str:
        """Return a clause with the command that continues the group; empty if it has no record."""
        command = self._tracker.command_line("train", resume=self.name)
        return f"; `{command}` continues it" if command and self.run_id else ""

    @property
    def parent(self) -> ParentRun:
        """The group as the parent of the seeds' runs."""
        return ParentRun(self.run_id, self._record.parent.tags)

    def start(self) -> None:
        """Open the record.

        Raises:
          TrackingError: If the store cannot be reached.
        """
        seeds = _join(self.seeds)
        tags = {Tag.KIND: self._record.kind, Tag.SEED: seeds}
        self._tracker.start(
            RunHeader(
                experiment=self.config.name,
                run_name=self.name,
                params={**self.config.flat(), "training.seed": seeds},
                tags=descriptions.tags(self.config) | tags,
                description=self._introduction(),
                continues=self._record.continues,
            )
        )
        if self._tracker.keeps_files:  # with it, an interrupted group can be continued
            with suppress(OSError), tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
                self._write_config(Path(scratch))
                self._tracker.add_artifacts(Path(scratch))

    def add(self, result: SeedResult) -> None:
        """Add the result of a seed."""
        self.results = sorted([*self.results, result], key=lambda each: each.seed)

    def fail_run(self, run_id: str | None) -> None:
        """Set the status of a run to FAILED, because its worker has died."""
        self._editor.mark(run_id, {}, RunStatus.FAILED)

    def finish(self, status: RunStatus, tags: Mapping[str, str] | None = None) -> list[str]:
        """Record the aggregate, and close the record.

        Args:
          status: Final status of the parent run.
          tags: Tags to set.

        Returns:
          Descriptions of what could not be recorded.
        """
        problems = self._add_aggregate() if self.results else []
        if tags:
            self._editor.mark(self.run_id, tags)
        if self.run_id is not None:
            self._editor.end_stale()  # runs whose workers were killed
        return problems + self._tracker.finish(status) + self._editor.problems

    def _add_aggregate(self) -> list[str]:
        scores = aggregate(self.results)
        self._tracker.log(_metrics(scores), self.results[0].curve[-1][0])
        if len(self.results) == len(self.seeds):  # the curves of others would follow it
            self._log_curve()
        table = scores_table(self.results, scores)
        self._tracker.describe(f"{self._introduction()}\n\n{table}")
        return self._add_files(scores)

    def _log_curve(self) -> None:
        """Log the aggregate learning curve at the steps that all seeds have."""
        curve = self._curve()
        if curve is None:
            return
        means = [dict(each.curve) for each in self.results]
        for step, *values in zip(*(each.tolist() for each in curve), strict=True):
            mean = float(np.mean([each[step] for each in means]))
            band = dict(zip(POOLED_BAND, values, strict=True))
            self._tracker.log({Metric.EVAL_MEAN: mean, **band}, step)

    def _curve(self) -> plots.Curve | None:
        curves = [{step: np.array([mean]) for step, mean in each.curve} for each in self.results]
        return pooled_curve(curves)

    def _introduction(self) -> str:
        text = [self.config.description] if self.config.description else []
        agent = descriptions.agent(self.config)
        text.append(f"{agent} on **{self.config.env.id}**, seeds {_join(self.seeds)}.")
        return "\n\n".join(text)

    def _add_files(self, scores: SeedScores) -> list[str]:
        if not self._tracker.keeps_files:
            return []
        try:
            with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
                self._write_files(scores, Path(scratch))
                self._tracker.add_artifacts(Path(scratch))
        except OSError as error:  # a full disk: the training is complete without the files
            return [f"the files of {self.name} could not be written: {error}"]
        return []

    def _write_config(self, folder: Path) -> None:
        (folder / Artifact.CONFIG).write_text(loading.dump(self.config), encoding="utf-8")

    def _write_files(self, scores: SeedScores, folder: Path) -> None:
        self._write_config(folder)
        seeds = [each.as_dict() for each in self.results]
        document = json.dumps({"aggregate": scores.as_dict(), "seeds": seeds})
        (folder / Artifact.SEEDS).write_text(document, encoding="utf-8")
        curve = self._curve()
        if curve is not None:
            title = f"{self.config.name} ({self.config.env.id}), {scores.n} seeds"
            path = folder / Artifact.LEARNING_CURVE
            curves = {f"IQM over {scores.n} seeds": curve}
            plots.save_figure(plots.make_learning_curves_figure(curves, title), path)


def scores_table(results: Sequence[SeedResult], scores: SeedScores) -> str:
    """Return a Markdown table with a row for each seed and one for the aggregate."""
    rows = [
        [str(each.seed), format_number(each.late_iqm), format_number(each.final_mean)]
        for each in results
    ]
    label = f"**IQM over {scores.n} seeds (95 % interval)**"
    total = [label, format_interval(*scores.late), format_interval(*scores.final)]
    header = ["seed", "last evaluations, IQM", "best policy, fresh episodes, mean"]
    return markdown_table(header, [*rows, total])


def _metrics(scores: SeedScores) -> dict[str, float]:
    return {
        Metric.LATE_IQM: scores.late.value,
        Metric.LATE_LOW: scores.late.low,
        Metric.LATE_HIGH: scores.late.high,
        Metric.FINAL_IQM: scores.final.value,
        Metric.FINAL_LOW: scores.final.low,
        Metric.FINAL_HIGH: scores.final.high,
        Metric.SEEDS: float(scores.n),
    }


def _join(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
