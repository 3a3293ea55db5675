"""What a comparison came to, in memory, in files and in MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dqnkit.analysis.groups import Group
from dqnkit.errors import ConfigError, DqnkitError
from dqnkit.evaluation import plots
from dqnkit.evaluation.aggregates import Estimate
from dqnkit.evaluation.formatting import format_interval, format_number
from dqnkit.events import RunStatus
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.tracker import COMPARISONS, KIND_TAG, RunRecord

_PICTURES = {"learning_curves.png", "learning_curves.html"}
_TAGGED = 150
"""Ids that a tag of MLflow's has room for."""


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


def keep(comparison: Comparison, reader: RunStore, output: Path) -> Comparison:
    """Writes the pictures, and a run of MLflow's that holds them with the table.

    Raises:
      ConfigError: The folder cannot be written; nothing is recorded then.
    """
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        files = Path(scratch)
        _draw(comparison, files)
        written = _copied(files, output)
        run_id, problems = _recorded(comparison, reader, files)
    return replace(
        comparison, files=written, run_id=run_id, problems=(*comparison.problems, *problems)
    )


def _draw(comparison: Comparison, folder: Path) -> None:
    document = comparison.as_dict()
    del document["files"], document["run_id"]  # which are not known yet
    (folder / "comparison.json").write_text(json.dumps(document), encoding="utf-8")
    curves = {group.legend: group.curve for group in comparison.groups if group.curve is not None}
    if curves:
        environment = ", ".join(sorted({group.runs[0].env for group in comparison.groups}))
        plots.learning_curves(curves, environment, folder / "learning_curves.png")
        plots.interactive_curves(curves, environment, folder / "learning_curves.html")


def _recorded(
    comparison: Comparison, reader: RunStore, files: Path
) -> tuple[str | None, list[str]]:
    """Makes the run; its id, and what could not be kept."""
    from dqnkit.tracking.mlflow_tracker import MlflowTracker  # the reader has loaded mlflow

    tracker = MlflowTracker(reader.store)
    ids = [run.id for group in comparison.groups for run in group.runs]
    names = [group.runs[0].name for group in comparison.groups]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    record = RunRecord(
        COMPARISONS,
        " vs ".join(names[:2]) + more,
        params={},
        tags={KIND_TAG: "comparison", "dqnkit.runs": ",".join(ids[:_TAGGED])},
        description=_markdown(comparison),
    )
    try:
        tracker.start(record)
        tracker.artifacts(files)
        return tracker.run_id, tracker.finish(RunStatus.FINISHED)
    except DqnkitError as error:  # what was read is worth showing
        return None, [f"the comparison was not recorded: {error}"]


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
        cells = [
            group.label,
            group.sample_of,
            *(group.params[key] for key in keys),
            format_interval(*(group.score or (None, None, None))),
            format_number(group.median("best/return_mean")),
            format_number(group.median("time/steps_per_second"), whole=True),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if comparison.improvement is not None:
        value, low, high = comparison.improvement
        lines.append(
            f"\nProbability that A is above B: {value:.2f} (95 % interval {low:.2f} to "
            f"{high:.2f}), over {comparison.improvement_over}"
        )
    return "\n".join(lines)
