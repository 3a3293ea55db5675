"""One configuration, trained with several seeds: each a run, and their aggregate above them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from dqnkit.analysis.groups import pooled_curve
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.evaluation import plots
from dqnkit.evaluation.aggregates import Estimate, estimate
from dqnkit.evaluation.formatting import format_interval, format_number
from dqnkit.events import RunStatus
from dqnkit.runs import descriptions
from dqnkit.tracking import make_parent_tracker
from dqnkit.tracking.recorded_run import LATE_IQM
from dqnkit.tracking.tracker import KIND_TAG, NO_PARENT, ParentRun, RunRecord
from dqnkit.workers.messages import Ended

SEEDS_KIND = "seeds"
"""Of a run that stands for one configuration with several seeds."""


@dataclass(frozen=True)
class SeedResult:
    """What one seed came to."""

    seed: int
    run_id: str | None
    late_iqm: float
    """Interquartile mean of the episodes of its last evaluations (`late_episodes`)."""
    final_mean: float
    """Mean of the best policy's fresh episodes."""
    final_iqm: float
    steps_per_second: float
    seconds: float
    curve: tuple[tuple[int, float], ...]
    """Environment steps and mean return of each evaluation."""

    @classmethod
    def of(cls, seed: int, ended: Ended) -> Self:
        """From what a worker tells at a run's end."""
        return cls(
            seed=seed,
            run_id=ended.run_id,
            late_iqm=ended.late.summary.iqm,
            final_mean=ended.final.summary.mean,
            final_iqm=ended.final.summary.iqm,
            steps_per_second=ended.steps_per_second,
            seconds=ended.seconds,
            curve=tuple((each.env_steps, each.summary.mean) for each in ended.evaluations),
        )

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        curve = tuple((int(step), float(mean)) for step, mean in document["curve"])
        return cls(**{**document, "curve": curve})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class GroupRecord:
    """Where the record of a group of seeds stands."""

    tracking_uri: str | None = None
    belongs_to: ParentRun = NO_PARENT
    """Its tags are those of the seeds' runs too."""
    kind: str = SEEDS_KIND
    """What the group stands for."""


@dataclass(frozen=True)
class SeedScores:
    """Aggregates over seeds, a value each."""

    n: int
    late: Estimate
    """How good the settings are at the end of training."""
    final: Estimate
    """How good the best policies are, on fresh episodes."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"n": self.n, "late": self.late._asdict(), "final": self.final._asdict()}


def scores(results: Sequence[SeedResult]) -> SeedScores:
    """Interquartile means over at least one seed, with 95 % bootstrap intervals over the seeds."""
    return SeedScores(
        len(results),
        estimate(np.array([each.late_iqm for each in results])),
        estimate(np.array([each.final_mean for each in results])),
    )


class SeedGroup:
    """The record of one configuration with several seeds, while they train."""

    def __init__(
        self,
        config: Config,
        name: str,
        seeds: Sequence[int],
        record: GroupRecord,
    ) -> None:
        """Opens nothing yet.

        Args:
          config: Resolved; its own seed does not count.
          name: Of the group's run.
          seeds: Of the runs below it.
          record: Where, and as what, it is recorded.
        """
        self.config = config
        self.name = name
        self.seeds = seeds
        self.results: list[SeedResult] = []
        self.tracker = make_parent_tracker(config, record.tracking_uri, record.belongs_to)
        self._record = record

    def start(self) -> None:
        """Opens the record.

        Raises:
          TrackingError: The store cannot be reached.
        """
        params = {**self.config.flat(), "training.seed": _listed(self.seeds)}
        self.tracker.start(
            RunRecord(
                experiment=self.config.name,
                run_name=self.name,
                params=params,
                tags={
                    **descriptions.tags(self.config),
                    KIND_TAG: self._record.kind,
                    "dqnkit.seed": _listed(self.seeds),
                },
                description=self._opening(),
            )
        )

    @property
    def member(self) -> ParentRun:
        """What the runs of the seeds belong to."""
        return ParentRun(self.tracker.run_id, self._record.belongs_to.tags)

    def add(self, result: SeedResult) -> None:
        """A seed is done."""
        self.results = sorted([*self.results, result], key=lambda each: each.seed)

    def finish(self, status: RunStatus, tags: Mapping[str, str] | None = None) -> list[str]:
        """Records aggregate, curve and table, and closes the record; what could not be kept."""
        problems: list[str] = []
        if self.results:
            aggregate = scores(self.results)
            self.tracker.log(_metrics(aggregate), self.results[0].curve[-1][0])
            self.tracker.describe(f"{self._opening()}\n\n{table(self.results, aggregate)}")
            if self.tracker.keeps_files:
                problems += self._keep_files(aggregate)
        if tags and self.tracker.run_id is not None:
            self.tracker.mark(self.tracker.run_id, tags)
        return problems + self.tracker.finish(status)

    def _opening(self) -> str:
        text = [self.config.description] if self.config.description else []
        what = descriptions.agent(self.config)
        text.append(f"{what} on **{self.config.env.id}**, seeds {_listed(self.seeds)}.")
        return "\n\n".join(text)

    def _keep_files(self, aggregate: SeedScores) -> list[str]:
        try:
            with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
                self._write_files(aggregate, Path(scratch))
                self.tracker.artifacts(Path(scratch))
        except OSError as error:  # a full disk costs files, not what was trained
            return [f"the files of {self.name} could not be written: {error}"]
        return []

    def _write_files(self, aggregate: SeedScores, folder: Path) -> None:
        (folder / "config.yaml").write_text(loading.dump(self.config), encoding="utf-8")
        document = {
            "aggregate": aggregate.as_dict(),
            "seeds": [each.as_dict() for each in self.results],
        }
        (folder / "seeds.json").write_text(json.dumps(document), encoding="utf-8")
        curve = pooled_curve(
            [{step: np.array([mean]) for step, mean in each.curve} for each in self.results]
        )
        if curve is not None:
            title = f"{self.config.name} ({self.config.env.id}), {aggregate.n} seeds"
            path = folder / "learning_curve.png"
            plots.learning_curves({f"IQM over {aggregate.n} seeds": curve}, title, path)


def table(results: Sequence[SeedResult], aggregate: SeedScores) -> str:
    """Markdown: a row a seed, and the aggregate below."""
    rows = [
        f"| {each.seed} | {format_number(each.late_iqm)} | {format_number(each.final_mean)} |"
        for each in results
    ]
    return "\n".join(
        [
            "| seed | last evaluations, IQM | best policy, fresh episodes, mean |",
            "|---|---|---|",
            *rows,
            f"| **IQM over {aggregate.n} seeds (95 % interval)** | {format_interval(*aggregate.late)} "
            f"| {format_interval(*aggregate.final)} |",
        ]
    )


def _metrics(aggregate: SeedScores) -> dict[str, float]:
    return {
        LATE_IQM: aggregate.late.value,
        "late/return_ci_low": aggregate.late.low,
        "late/return_ci_high": aggregate.late.high,
        "final/return_iqm": aggregate.final.value,
        "final/return_ci_low": aggregate.final.low,
        "final/return_ci_high": aggregate.final.high,
        "seeds": float(aggregate.n),
    }


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
