"""Comparison of runs: differing parameters, scores, and learning curves in one picture."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dqnkit._system.files import replace_atomically
from dqnkit._system.text import short_names
from dqnkit.analysis.groups import Evaluations, Group, grouped
from dqnkit.errors import ArgumentError, ConfigError, DqnkitError, TrackingError
from dqnkit.evaluation import plots
from dqnkit.evaluation.aggregates import Estimate, probability_of_improvement
from dqnkit.evaluation.document import EvaluationDocument
from dqnkit.evaluation.formatting import format_interval, format_number, markdown_table
from dqnkit.evaluation.plots import Curve
from dqnkit.events import Listener, RunsRead, RunStatus, Warned, ignore
from dqnkit.tracking.location import AUTO, StoreLocation, locate_store
from dqnkit.tracking.names import COMPARISONS, Artifact, Metric, RunKind, Tag
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunFilter, RunStore
from dqnkit.tracking.tracker import RunHeader

if TYPE_CHECKING:  # takes half a second
    from matplotlib.figure import Figure

_MAX_RUNS = 1_000
_MAX_NAMES = 5
_MAX_TAGGED = 150
"""Number of ids that fit into a tag of MLflow."""
_PICTURES = {Artifact.CURVES_PICTURE, Artifact.CURVES_PAGE, Artifact.PARAMETERS_PICTURE}


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, and a comparison of the first two."""

    groups: tuple[Group, ...]
    improvement: Estimate | None
    """Probability that a draw from the first group is above one from the second."""
    improvement_over: str = ""
    """Description of the draws: seeds if both groups have several, episodes if both have one."""
    files: tuple[Path, ...] = ()
    """Files in the output folder."""
    run_id: str | None = None
    """Id of the MLflow run that records the comparison."""
    problems: tuple[str, ...] = ()
    """Descriptions of runs that were left out, and of what could not be read or recorded."""
    sorted_by: str | None = None
    """Metric that sorts the groups, highest first; None if they are in the order given."""

    @property
    def environment(self) -> str:
        """Ids of the environments that the runs were trained in."""
        return ", ".join(sorted({group.runs[0].env for group in self.groups}))

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """Learning curve of each group that has one, by its legend."""
        return {each.legend: each.curve for each in self.groups if each.curve is not None}

    def make_figure(self) -> Figure:
        """Make a Matplotlib figure of the learning curves."""
        return plots.make_learning_curves_figure(self.curves, self.environment)

    @cached_property
    def points(self) -> Mapping[str, np.ndarray]:
        """Values of each differing parameter that is a number, float [groups], by short name.

        Of layer sizes, the number of units counts. Only a sorted comparison has points.
        """
        if self.sorted_by is None:
            return {}
        names = short_names(self.groups[0].params)
        columns = {
            names[key]: [as_number(group.params[key]) for group in self.groups] for key in names
        }
        return {
            name: np.array(column, np.float64)
            for name, column in columns.items()
            if None not in column and len(set(column)) > 1
        }

    def make_points_figure(self) -> Figure:
        """Make a Matplotlib figure of `points` against the metric that sorts the groups."""
        metric = self.sorted_by or Metric.LATE_IQM
        values = [group.median(metric) for group in self.groups]
        heights = np.array([np.nan if each is None else each for each in values])
        return plots.make_scatter_figure(self.points, heights, metric, self.environment)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        improvement = self.improvement._asdict() if self.improvement else None
        return {
            "sorted_by": self.sorted_by,
            "groups": [group.as_dict() for group in self.groups],
            "probability_of_improvement": improvement,
            "improvement_over": self.improvement_over,
            "files": [str(path) for path in self.files],
            "run_id": self.run_id,
            "problems": list(self.problems),
        }


def compare(
    *runs: str,
    experiment: str | None = None,
    study: str | None = None,
    output: Path | str | None = None,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> Comparison:
    """Compare runs, draw their learning curves, and record the comparison in MLflow.

    Args:
      runs: References to runs (`dqnkit.tracking.references.FORMS`).
      experiment: Name of an experiment, whose runs are added.
      study: Name of a study, whose trials are added; with `experiment`, its trials in that.
      output: Folder for `comparison.json` and the pictures; None writes no files.
      tracking_uri: URI of the store (`dqnkit.tracking.location.locate_store`).
      listener: Receives `RunsRead` after each run, and `Warned`.

    Raises:
      ConfigError: If a reference is wrong, no run matches, or the folder cannot be written.
      TrackingError: If the store cannot be read.
    """
    store = RunStore(locate_store(tracking_uri))
    chosen = _choose(store, runs, experiment, study)
    evaluations = {}
    for number, run in enumerate(chosen, start=1):
        evaluations[run.id] = _evaluations(store, run)
        listener(RunsRead(number, len(chosen)))
    # Runs that are named keep their order, of which the first two are compared.
    best_by = None if runs else Metric.LATE_IQM if study is not None else Metric.FINAL_IQM
    groups = grouped(chosen, evaluations, best_by)
    problems = [*_left_out(chosen, groups)]
    problems += [each.problem for group in groups for each in group.evaluations if each.problem]
    environments = sorted({run.env for run in chosen})
    if len(environments) > 1:
        problems.append(
            f"returns of different environments ({', '.join(environments)}) are not comparable"
        )
    problems += _single_episodes(groups)
    comparison = Comparison(groups, None, problems=tuple(problems), sorted_by=best_by)
    if len(groups) > 1 and len(environments) == 1:
        comparison = _with_improvement(comparison)
    saved = _save(comparison, store.location, None if output is None else Path(output))
    for problem in saved.problems:
        listener(Warned(problem))
    return saved


def _choose(
    store: RunStore, references: Sequence[str], experiment: str | None, study: str | None
) -> list[RecordedRun]:
    if not references and experiment is None and study is None:
        raise ConfigError(
            "there is nothing to compare: name runs, `experiment` or `study`; "
            "`dqnkit runs` lists them"
        )
    runs = [find_run(store, reference) for reference in references]
    if experiment is not None or study is not None:
        found = store.runs(RunFilter(experiment=experiment, study=study), limit=_MAX_RUNS)
        if not found:
            named = {"experiment": experiment, "study": study}
            of = " and ".join(f"{what} {name!r}" for what, name in named.items() if name)
            raise ConfigError(
                f"there are no runs of {of} in {store.location.name}; `dqnkit runs` lists them"
            )
        runs += reversed(found)
    return list({run.id: run for run in runs}.values())


def _evaluations(store: RunStore, run: RecordedRun) -> Evaluations:
    """Read a run's `evaluation.json`; without that, use its metrics."""
    document, problem = EvaluationDocument(), ""
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        try:
            if Artifact.EVALUATION in store.artifacts(run):
                path = store.fetch(run, Artifact.EVALUATION, Path(scratch))
                document = EvaluationDocument.from_json(path.read_text(encoding="utf-8"))
        except (TrackingError, OSError, ValueError) as error:
            problem = f"{run.label}: its evaluations cannot be read: {error}"
    returns = document.final.episodes.returns if document.final else ()
    final = np.array(returns, np.float64)
    curve = {each.env_steps: np.array(each.returns) for each in document.evaluations}
    if not curve:
        means = store.history(run, Metric.EVAL_MEAN)
        curve = {step: np.array([value]) for step, value in means}
    mean = float(final.mean()) if final.size else run.metrics.get(Metric.FINAL_MEAN)
    return Evaluations(curve, final, mean, problem)


def as_number(param: str) -> float | None:
    """Return a parameter as MLflow keeps it as a number; None if it is none.

    Lists of numbers, such as layer sizes, give their sum.
    """
    try:
        value = json.loads(param)
    except ValueError:
        return None
    if isinstance(value, list) and value and all(_is_number(each) for each in value):
        return float(sum(value))
    return float(value) if _is_number(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _left_out(runs: Sequence[RecordedRun], groups: Sequence[Group]) -> Iterator[str]:
    """Yield a warning about runs that repeat the configuration and the seed of another."""
    kept = {run.id for group in groups for run in group.runs}
    names = [run.label for run in runs if run.id not in kept]
    if names:
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        yield (
            f"{', '.join(names[:_MAX_NAMES])}{more} left out: a later run has the same "
            "configuration and the same seed, so they are not independent evidence"
        )


def _single_episodes(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a warning about seeds whose score rests on a single episode."""
    for group in groups:
        names = [
            run.label
            for run, each in zip(group.runs, group.evaluations, strict=True)
            if len(group.runs) > 1 and each.final.size == 1
        ]
        if names:
            yield (
                f"{group.label}: the score of {', '.join(names[:_MAX_NAMES])} rests on one "
                "episode, and counts as much as that of any other seed; evaluate more by "
                "`dqnkit eval`"
            )


def _with_improvement(comparison: Comparison) -> Comparison:
    pair = comparison.groups[:2]
    several = [len(group.runs) > 1 for group in pair]
    first, second = (group.sample for group in pair)
    if first.size < 2 or second.size < 2:
        return comparison
    if several[0] != several[1]:  # seeds and episodes vary for different reasons
        problem = (
            "no probability of improvement: one of A and B has several seeds and the other has "
            "one; train more seeds of the latter"
        )
        return replace(comparison, problems=(*comparison.problems, problem))
    what = "seeds" if all(several) else "episodes"
    return replace(
        comparison,
        improvement=probability_of_improvement(first, second),
        improvement_over=f"{first.size:,} and {second.size:,} {what}",
    )


# -- Files and record


def _save(comparison: Comparison, location: StoreLocation, output: Path | None) -> Comparison:
    """Write the pictures into the output folder, and record the comparison in MLflow.

    Raises:
      ArgumentError: If the folder cannot be written; nothing is recorded then.
    """
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        files = Path(scratch)
        _write_files(comparison, files)
        copied = _copy(files, output) if output is not None else ()
        run_id, problems = _record(comparison, location, files)
    return replace(
        comparison, files=copied, run_id=run_id, problems=(*comparison.problems, *problems)
    )


def _write_files(comparison: Comparison, folder: Path) -> None:
    document = comparison.as_dict()
    del document["files"], document["run_id"]  # not known yet
    (folder / Artifact.COMPARISON).write_text(json.dumps(document), encoding="utf-8")
    if comparison.curves:
        title = comparison.environment
        plots.save_figure(comparison.make_figure(), folder / Artifact.CURVES_PICTURE)
        plots.interactive_curves(comparison.curves, title, folder / Artifact.CURVES_PAGE)
    if comparison.points:
        plots.save_figure(comparison.make_points_figure(), folder / Artifact.PARAMETERS_PICTURE)


def _copy(files: Path, output: Path) -> tuple[Path, ...]:
    """Copy each file into the output folder, completely or not at all."""
    names = sorted(path.name for path in files.iterdir())
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            with replace_atomically(output / name) as partial:
                shutil.copyfile(files / name, partial)
        for name in _PICTURES - set(names):  # left by an earlier comparison
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}; give another folder"
        raise ArgumentError("output", output, problem) from error
    return tuple(output / name for name in names)


def _record(
    comparison: Comparison, location: StoreLocation, files: Path
) -> tuple[str | None, list[str]]:
    """Record the comparison as a run; return its id, and what could not be recorded."""
    from dqnkit.tracking.mlflow_tracker import MlflowTracker  # loads MLflow, as the store did

    tracker = MlflowTracker(location)
    ids = [run.id for group in comparison.groups for run in group.runs]
    header = RunHeader(
        COMPARISONS,
        _run_name(comparison),
        params={},
        tags={Tag.KIND: RunKind.COMPARISON, Tag.COMPARED_RUNS: ",".join(ids[:_MAX_TAGGED])},
        description=_markdown(comparison),
    )
    try:
        tracker.start(header)
        tracker.add_artifacts(files)
        return tracker.run_id, tracker.finish(RunStatus.FINISHED)
    except DqnkitError as error:  # the comparison is still shown
        return None, [f"the comparison was not recorded: {error}"]


def _run_name(comparison: Comparison) -> str:
    names = [group.runs[0].name for group in comparison.groups]
    if len(names) == 1:  # the name alone is that of the run
        return f"{names[0]} alone"
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return " vs ".join(names[:2]) + more


def _row(group: Group, keys: Sequence[str]) -> list[str]:
    return [
        group.label,
        group.sample_of,
        *(group.params[key] for key in keys),
        format_interval(*(group.score or (None, None, None))),
        format_number(group.median(Metric.BEST_MEAN)),
        format_number(group.median(Metric.STEPS_PER_SECOND), whole=True),
    ]


def _markdown(comparison: Comparison) -> str:
    keys = list(comparison.groups[0].params)
    header = ["runs", "sample", *keys, "score: IQM (95 % interval)", "best", "steps/s"]
    table = markdown_table(header, [_row(group, keys) for group in comparison.groups])
    if comparison.improvement is None:
        return table
    value, low, high = comparison.improvement
    return (
        f"{table}\n\nProbability that A is above B: {value:.2f} (95 % interval {low:.2f} to "
        f"{high:.2f}), over {comparison.improvement_over}"
    )
