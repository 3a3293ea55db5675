"""Runs side by side: what differs, what they came to, and their curves over each other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dqnkit import plots
from dqnkit.errors import ConfigError, DqnkitError, TrackingError
from dqnkit.plots import Curve
from dqnkit.statistics import (
    Estimate,
    bootstrap_interval,
    interquartile_mean,
    probability_of_improvement,
)
from dqnkit.tracking import store
from dqnkit.tracking.reader import Filter, Reader
from dqnkit.tracking.records import RecordedRun
from dqnkit.tracking.references import find_run
from dqnkit.tracking.tracker import COMPARISONS, KIND_TAG, RunRecord, Status

_SEED = "training.seed"
_VERSION = "dqnkit.version"
_SAYS_NOTHING = (_SEED, "description", "tracking.enabled", "tracking.tags")
"""Parameters that make no difference to what is learnt, the seed aside."""
_CURVE_RESAMPLES = 2_000
_PICTURES = {"learning_curves.png", "learning_curves.html"}
_MAX_RUNS = 1_000
_NAMED = 5
_TAGGED = 150
"""Ids that a tag of MLflow's has room for."""
_IN_LEGEND = 2
"""Parameters that a legend has room for."""


class Evaluations(NamedTuple):
    """What a run's evaluations came to."""

    curve: dict[int, np.ndarray]
    """Returns by environment steps: of each episode, or their mean alone."""
    final: np.ndarray
    """Returns of the final episodes; empty where there were none, or they cannot be read."""
    mean: float | None
    """Of the final episodes."""
    problem: str = ""
    """Why something is missing that the run should have."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    runs: tuple[RecordedRun, ...]
    evaluations: tuple[Evaluations, ...]
    letter: str = ""
    """What the table and the pictures call it."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Those in which the groups of a comparison differ."""

    @property
    def label(self) -> str:
        """Its letter, the name of its first run, and how many more there are."""
        more = len(self.runs) - 1
        several = f" and {more} more seed{'s' if more > 1 else ''}" if more else ""
        return f"{self.letter} {self.runs[0].name}{several}"

    @property
    def legend(self) -> str:
        """Its letter with what sets it apart, where that is little, else its label."""
        if not 1 <= len(self.params) <= _IN_LEGEND:
            return self.label
        parts = [f"{key.rpartition('.')[2]}={value}" for key, value in self.params.items()]
        seeds = f"{len(self.runs)} seed{'s' if len(self.runs) > 1 else ''}"
        return f"{self.letter} {', '.join(parts)} ({seeds})"

    @property
    def sample(self) -> np.ndarray:
        """What the score is a mean of: of several seeds a mean each, of one its episodes."""
        if len(self.runs) == 1:
            return self.evaluations[0].final
        return np.array([each.mean for each in self.evaluations if each.mean is not None])

    @property
    def sample_of(self) -> str:
        """What `sample` holds, in words."""
        if len(self.runs) == 1:
            return f"{self.sample.size:,} episodes of 1 seed"
        if self.sample.size < len(self.runs):
            return f"{self.sample.size} of {len(self.runs)} seeds"
        return f"{self.sample.size} seeds"

    @cached_property
    def score(self) -> Estimate | None:
        """Interquartile mean of `sample`; None where that has fewer than two values."""
        if self.sample.size < 2:
            return None
        return Estimate(float(interquartile_mean(self.sample)), *bootstrap_interval(self.sample))

    @property
    def status(self) -> str:
        """Of the runs, which is one."""
        return self.runs[0].status

    def median(self, metric: str) -> float | None:
        """Over the runs, of the last value of a metric."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return float(np.median(values)) if values else None

    @cached_property
    def curve(self) -> Curve | None:
        """The learning curve, at the steps that all runs were evaluated at."""
        curves = [each.curve for each in self.evaluations]
        steps = sorted(set.intersection(*(set(each) for each in curves)))
        if not steps:
            return None
        points = []
        for step in steps:
            values = np.array([each[step].mean() for each in curves])
            values = curves[0][step] if len(curves) == 1 else values
            low, high = bootstrap_interval(values, resamples=_CURVE_RESAMPLES)
            points.append((float(interquartile_mean(values)), low, high))
        middle, lower, upper = (np.array(each) for each in zip(*points, strict=True))
        return Curve(np.array(steps), middle, lower, upper)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "label": self.label,
            "runs": [{"id": run.id, "name": run.name} for run in self.runs],
            "status": self.status,
            "params": dict(self.params),
            "score": self.score._asdict() if self.score else None,
            "score_of": self.sample_of,
            "best_return_mean": self.median("best/return_mean"),
            "steps_per_second": self.median("time/steps_per_second"),
            "training_seconds": self.median("time/training_seconds"),
        }


@dataclass(frozen=True)
class Comparison:
    """Groups, and how the first two stand to each other."""

    groups: tuple[Group, ...]
    improvement: Estimate | None
    """Probability that a draw of the first group is above one of the second."""
    improvement_over: str = ""
    """What is drawn: seeds where both groups have several, episodes where both have one."""
    files: tuple[Path, ...] = ()
    run_id: str | None = None
    """The MLflow run that keeps the comparison."""
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "groups": [group.as_dict() for group in self.groups],
            "probability_of_improvement": (
                self.improvement._asdict() if self.improvement else None
            ),
            "improvement_over": self.improvement_over,
            "files": [str(path) for path in self.files],
            "run_id": self.run_id,
            "problems": list(self.problems),
        }


def compare(
    references: Sequence[str] = (),
    *,
    experiment: str | None = None,
    study: str | None = None,
    output: Path = Path("comparison"),
    tracking_uri: str | None = None,
) -> Comparison:
    """Compares runs, draws their learning curves, and records it all in MLflow.

    Args:
      references: Runs (`dqnkit.tracking.references.FORMS`).
      experiment: All its runs too.
      study: All its trials too; with `experiment`, those in it.
      output: Folder for `learning_curves.png` and `learning_curves.html`.
      tracking_uri: The store; see `dqnkit.tracking.store.resolve`.

    Raises:
      ConfigError: A reference is wrong, there is no run, or the folder cannot be written.
      TrackingError: The store cannot be read.
    """
    reader = Reader(store.resolve(tracking_uri))
    runs = _chosen(reader, references, experiment, study)
    groups = grouped(runs, {run.id: _evaluations(reader, run) for run in runs})
    problems = [*_left_out(runs, groups)]
    problems += [e.problem for group in groups for e in group.evaluations if e.problem]
    environments = sorted({run.env for run in runs})
    if len(environments) > 1:
        problems.append(
            f"returns of different environments ({', '.join(environments)}) have no common scale"
        )
    comparison = Comparison(groups, None, problems=tuple(problems))
    if len(groups) > 1 and len(environments) == 1:
        comparison = _with_improvement(comparison)
    return _kept(comparison, reader, output)


def _with_improvement(comparison: Comparison) -> Comparison:
    pair = comparison.groups[:2]
    several = [len(group.runs) > 1 for group in pair]
    first, second = (group.sample for group in pair)
    if first.size < 2 or second.size < 2:
        return comparison
    if several[0] != several[1]:  # seeds and episodes vary for different reasons
        problem = (
            "no probability of improvement: of A and B one has several seeds and the other one; "
            "train more seeds of that"
        )
        return replace(comparison, problems=(*comparison.problems, problem))
    what = "seeds" if all(several) else "episodes"
    return replace(
        comparison,
        improvement=probability_of_improvement(first, second),
        improvement_over=f"{first.size:,} and {second.size:,} {what}",
    )


def _left_out(runs: Sequence[RecordedRun], groups: Sequence[Group]) -> Iterator[str]:
    """Says which runs are in no group, since another has their settings and their seed."""
    kept = {run.id for group in groups for run in group.runs}
    names = [run.label for run in runs if run.id not in kept]
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield (
            f"{', '.join(names[:_NAMED])}{more} left out: a later run has the same settings and "
            "the same seed, which makes it no further evidence"
        )


def grouped(
    runs: Iterable[RecordedRun], evaluations: Mapping[str, Evaluations]
) -> tuple[Group, ...]:
    """Pools finished runs that differ in nothing but the seed, and names what differs."""
    pools: dict[Any, list[RecordedRun]] = {}
    for run in runs:
        same = frozenset((k, v) for k, v in _settings(run).items() if k not in _SAYS_NOTHING)
        # The same seed twice is no further evidence, and an unfinished run none of its kind.
        key: Any = same if run.status == Status.FINISHED else run.id
        pools.setdefault(key, []).append(run)
    members = [
        list({run.params.get(_SEED): run for run in pool}.values()) for pool in pools.values()
    ]
    params = [_settings(pool[0]) for pool in members]
    keys = sorted({key for each in params for key in each} - set(_SAYS_NOTHING))
    differing = [key for key in keys if len({each.get(key) for each in params}) > 1]
    return tuple(
        Group(
            tuple(pool),
            tuple(evaluations[run.id] for run in pool),
            _letter(number),
            {key: _settings(pool[0]).get(key, "") for key in differing},
        )
        for number, pool in enumerate(members)
    )


def _settings(run: RecordedRun) -> dict[str, str]:
    """The parameters, and the version of dqnkit, which may change what they come to."""
    version = run.tags.get(_VERSION)
    return {**run.params, **({_VERSION: version} if version else {})}


def _letter(number: int) -> str:
    """A to Z, then A1 to Z1 and so on."""
    rest, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(rest) if rest else "")


def _chosen(
    reader: Reader, references: Sequence[str], experiment: str | None, study: str | None
) -> list[RecordedRun]:
    if not references and experiment is None and study is None:
        raise ConfigError(
            "nothing to compare: name runs, or --experiment or --study; `dqnkit runs` lists them"
        )
    runs = [find_run(reader, reference) for reference in references]
    if experiment is not None or study is not None:
        found = reader.runs(Filter(experiment=experiment, study=study), limit=_MAX_RUNS)
        if not found:
            named = {"experiment": experiment, "study": study}
            of = " and ".join(f"{what} {name!r}" for what, name in named.items() if name)
            raise ConfigError(
                f"no runs of {of} in {reader.place}; `dqnkit runs` lists what there is"
            )
        runs += reversed(found)
    return list({run.id: run for run in runs}.values())


def _evaluations(reader: Reader, run: RecordedRun) -> Evaluations:
    """From `evaluation.json`; of a run that has none, what its metrics say."""
    mean = run.metrics.get("final/return_mean")
    document: dict[str, Any] = {}
    problem = ""
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        try:
            if "evaluation.json" in reader.artifacts(run):
                path = reader.fetch(run, "evaluation.json", Path(scratch))
                document = json.loads(path.read_text(encoding="utf-8"))
        except (TrackingError, OSError, ValueError) as error:
            problem = f"{run.label}: its evaluations cannot be read: {error}"
    final = np.array((document.get("final") or {}).get("returns", []), np.float64)
    curve = {
        int(each["env_steps"]): np.array(each["returns"], np.float64)
        for each in document.get("evaluations", [])
    }
    if not curve:
        means = reader.history(run, "eval/return_mean")
        curve = {step: np.array([value]) for step, value in means}
    return Evaluations(curve, final, float(final.mean()) if final.size else mean, problem)


def _kept(comparison: Comparison, reader: Reader, output: Path) -> Comparison:
    """Writes the pictures, and a run of MLflow's that holds them with the table."""
    curves = {group.legend: group.curve for group in comparison.groups if group.curve is not None}
    environment = ", ".join(sorted({g.runs[0].env for g in comparison.groups}))
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        files = Path(scratch)
        document = comparison.as_dict()
        del document["files"], document["run_id"]  # which are not known yet
        (files / "comparison.json").write_text(json.dumps(document), encoding="utf-8")
        if curves:
            plots.learning_curves(curves, environment, files / "learning_curves.png")
            plots.interactive_curves(curves, environment, files / "learning_curves.html")
        written = _copied(files, output)
        from dqnkit.tracking.mlflow_tracker import MlflowTracker  # the reader has loaded mlflow

        tracker = MlflowTracker(reader.store)
        ids = [run.id for group in comparison.groups for run in group.runs]
        names = [group.runs[0].name for group in comparison.groups]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        record = RunRecord(
            COMPARISONS,
            " vs ".join(names[:2]) + more,
            params={},
            tags={
                KIND_TAG: "comparison",
                "dqnkit.runs": ",".join(ids[:_TAGGED]),
            },
            description=_markdown(comparison),
        )
        problems = list(comparison.problems)
        try:
            tracker.start(record)
            tracker.artifacts(files)
            problems += tracker.finish(Status.FINISHED)
        except DqnkitError as error:  # what was read is worth showing
            problems.append(f"the comparison was not recorded: {error}")
    return replace(comparison, files=written, run_id=tracker.run_id, problems=tuple(problems))


def _copied(files: Path, output: Path) -> tuple[Path, ...]:
    """Each file under its name in `output`, whole or not at all."""
    names = sorted(path.name for path in files.iterdir())
    partial = output / f".{os.getpid()}.partial"
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(files / name, partial)
            partial.replace(output / name)
        for name in _PICTURES - set(names):  # of an earlier comparison, which this is not
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--output {output}: cannot be written: {error.strerror}; give another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return tuple(output / name for name in names)


def _markdown(comparison: Comparison) -> str:
    """The table, for MLflow's page of the run."""
    keys = list(comparison.groups[0].params)
    head = ["runs", "sample", *keys, "score: IQM (95 % interval)", "best", "steps/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for group in comparison.groups:
        score = "-"
        if group.score is not None:
            value, low, high = group.score
            score = f"{value:.4g} ({low:.4g} to {high:.4g})"
        best, rate = group.median("best/return_mean"), group.median("time/steps_per_second")
        numbers = ["-" if best is None else f"{best:.4g}", "-" if rate is None else f"{rate:,.0f}"]
        params = [group.params[key] for key in keys]
        cells = [group.label, group.sample_of, *params, score, *numbers]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if comparison.improvement is not None:
        value, low, high = comparison.improvement
        lines.append(
            f"\nProbability that A is above B: {value:.2f} (95 % interval {low:.2f} to "
            f"{high:.2f}), over {comparison.improvement_over}"
        )
    return "\n".join(lines)
