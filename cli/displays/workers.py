"""A table of workers, redrawn in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dqnkit.evaluation.formatting import format_number
from dqnkit.events import (
    Collecting,
    Evaluated,
    Evaluating,
    Progress,
    RunAssigned,
    RunEnded,
    RunFailed,
    RunStarted,
    WorkerDied,
    WorkerEvent,
    WorkerReady,
    WorkerRetired,
)

_BAR_WIDTH = 12


@dataclass
class _Row:
    """State of one worker."""

    label: str = ""
    values: str = ""
    activity: str = "loading"
    """Shown in place of the progress bar."""
    total: int = 0
    iteration: int = 0
    steps_per_second: float = 0.0
    score: float | None = None


class WorkerTable:
    """A row per worker: run, progress, speed, score so far, and values."""

    def __init__(self, size: int) -> None:
        self._rows: dict[int, _Row] = {number: _Row() for number in range(size)}

    def assign(self, event: RunAssigned, label: str, values: str = "") -> None:
        """Show that a worker begins a run."""
        total = event.config.training.num_iterations
        self._rows[event.worker] = _Row(label, values, "compiling", total)

    def update(self, event: WorkerEvent) -> None:
        """Update the row of a worker from its event."""
        worker = event.worker
        row = self._rows.setdefault(worker, _Row())
        match event.event:
            case WorkerDied() | WorkerRetired():
                del self._rows[worker]  # its replacement gets a row when it is ready
            case WorkerReady() | RunEnded() | RunFailed():
                self._rows[worker] = _Row(activity="idle")
            case RunStarted():
                row.activity = ""
            case Collecting():
                row.activity = "collecting"
            case Evaluating() if not row.iteration:
                row.activity = "evaluating"
            case Progress() as progress:
                row.activity = ""
                row.iteration = progress.iteration
                row.steps_per_second = progress.steps_per_second
            case Evaluated() as evaluated:
                row.score = evaluated.late.summary.iqm

    def __rich__(self) -> Table:
        """Render the table; without values, the column of values is left out."""
        rows = sorted(self._rows.items())  # a copy, as another thread changes the rows
        has_values = any(row.values for _, row in rows)
        table = _empty_table(max((len(row.label) for _, row in rows), default=0))
        if has_values:
            table.add_column("values", no_wrap=True)
        for worker, row in rows:
            bar: RenderableType = Text(row.activity, "dim")
            if not row.activity:
                bar = ProgressBar(total=row.total, completed=row.iteration, width=_BAR_WIDTH)
            speed = f"{row.steps_per_second:,.0f}" if row.steps_per_second else ""
            score = "" if row.score is None else format_number(row.score)
            cells = [str(worker), row.label, bar, speed, score]
            table.add_row(*cells, *([row.values] if has_values else []))
        return table


def _empty_table(label_width: int) -> Table:
    """Return a table with all columns but that of the values, and without rows.

    The minimum widths let a narrow terminal cut only the column of values.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("worker", no_wrap=True, min_width=6)
    table.add_column("run", no_wrap=True, min_width=label_width)
    table.add_column("progress", no_wrap=True, min_width=_BAR_WIDTH)
    table.add_column("steps/s", no_wrap=True, min_width=7, justify="right")
    table.add_column("score", no_wrap=True, min_width=6, justify="right")
    return table


def short_values(values: Mapping[str, Any]) -> str:
    """Format values by the last part of their keys where that is unique, with rounded numbers."""
    names = [key.rpartition(".")[2] for key in values]
    texts = []
    for (key, value), name in zip(values.items(), names, strict=True):
        text = f"{value:.2e}" if isinstance(value, float) else str(value)
        texts.append(f"{name if names.count(name) == 1 else key}={text}")
    return " ".join(texts)


def clock(seconds: float) -> str:
    """Format minutes and seconds."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
