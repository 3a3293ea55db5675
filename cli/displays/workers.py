"""What workers do, as a table that is redrawn in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dqnkit.evaluation.formatting import format_number

if TYPE_CHECKING:
    from dqnkit.workers.messages import Message, Task

_BAR_WIDTH = 12


@dataclass
class _Row:
    """What a worker does now."""

    label: str = ""
    values: str = ""
    doing: str = "loading"
    total: int = 0
    iteration: int = 0
    steps_per_second: float = 0.0
    score: float | None = None


class WorkerTable:
    """A row a worker: run, progress, speed, score until now, and values."""

    def __init__(self, size: int) -> None:
        self._rows: dict[int, _Row] = {number: _Row() for number in range(size)}

    def given(self, worker: int, task: Task, label: str, values: str = "") -> None:
        """A worker begins a run."""
        total = task.config.training.num_iterations
        self._rows[worker] = _Row(label, values, "compiling", total)

    def heard(self, worker: int, message: Message) -> None:
        """A worker said something."""
        row = self._rows.setdefault(worker, _Row())
        match type(message).__name__:  # the messages' module need not be loaded for `--help`
            case "Died" | "Retired":
                del self._rows[worker]  # another takes its place once it is ready
            case "Ready" | "Ended" | "Failed":
                self._rows[worker] = _Row(doing="idle")
            case "Began":
                row.doing = ""
            case "Advanced":
                advanced: Any = message
                row.iteration = advanced.iteration
                row.steps_per_second = advanced.steps_per_second
            case "Evaluated":
                evaluated: Any = message
                row.score = evaluated.late.summary.iqm

    def __rich__(self) -> Table:
        """Called by rich at each redraw."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        rows = [(str(worker), row) for worker, row in sorted(self._rows.items())]
        # Where the terminal is narrow, only the last column gives way.
        labels = max((len(row.label) for _, row in rows), default=0)
        table.add_column("worker", no_wrap=True, min_width=6)
        table.add_column("run", no_wrap=True, min_width=labels)
        table.add_column("progress", no_wrap=True, min_width=_BAR_WIDTH)
        table.add_column("steps/s", no_wrap=True, min_width=7, justify="right")
        table.add_column("score", no_wrap=True, min_width=6, justify="right")
        table.add_column("values", no_wrap=True)
        for worker, row in rows:
            bar: Any = Text(row.doing, "dim")
            if not row.doing:
                bar = ProgressBar(total=row.total, completed=row.iteration, width=_BAR_WIDTH)
            speed = f"{row.steps_per_second:,.0f}" if row.steps_per_second else ""
            score = "" if row.score is None else format_number(row.score)
            table.add_row(worker, row.label, bar, speed, score, row.values)
        return table


def short_values(values: Mapping[str, Any]) -> str:
    """Values by the last part of their keys, where only one has it; numbers rounded."""
    names = [key.rpartition(".")[2] for key in values]
    parts = []
    for (key, value), name in zip(values.items(), names, strict=True):
        text = f"{value:.2e}" if isinstance(value, float) else str(value)
        parts.append(f"{name if names.count(name) == 1 else key}={text}")
    return " ".join(parts)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
