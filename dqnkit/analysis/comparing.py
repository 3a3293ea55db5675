"""Runs side by side: what differs, what they came to, and their curves over each other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dqnkit.analysis.comparison import Comparison, keep
from dqnkit.analysis.groups import Evaluations, Group, grouped
from dqnkit.errors import ConfigError, TrackingError
from dqnkit.evaluation.aggregates import probability_of_improvement
from dqnkit.tracking import location
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunFilter, RunStore

_MAX_RUNS = 1_000
_NAMED = 5


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
      tracking_uri: The store; see `dqnkit.tracking.location.resolve`.

    Raises:
      ConfigError: A reference is wrong, there is no run, or the folder cannot be written.
      TrackingError: The store cannot be read.
    """
    reader = RunStore(location.locate_store(tracking_uri))
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
    return keep(comparison, reader, output)


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


def _chosen(
    reader: RunStore, references: Sequence[str], experiment: str | None, study: str | None
) -> list[RecordedRun]:
    if not references and experiment is None and study is None:
        raise ConfigError(
            "nothing to compare: name runs, or --experiment or --study; `dqnkit runs` lists them"
        )
    runs = [find_run(reader, reference) for reference in references]
    if experiment is not None or study is not None:
        found = reader.runs(RunFilter(experiment=experiment, study=study), limit=_MAX_RUNS)
        if not found:
            named = {"experiment": experiment, "study": study}
            of = " and ".join(f"{what} {name!r}" for what, name in named.items() if name)
            raise ConfigError(
                f"no runs of {of} in {reader.place}; `dqnkit runs` lists what there is"
            )
        runs += reversed(found)
    return list({run.id: run for run in runs}.values())


def _evaluations(reader: RunStore, run: RecordedRun) -> Evaluations:
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
