"""The training of one run: a live display, plain lines, and the result."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from cli import displays
from cli.displays import LiveDisplay
from cli.output import collecting, say, say_document, warn, warning
from dqnkit.config.sections import Config
from dqnkit.evaluation.formatting import format_number
from dqnkit.events import (
    Collecting,
    Evaluated,
    Evaluating,
    Event,
    Listener,
    Progress,
    RunPreparing,
    RunStarted,
    Warned,
)

if TYPE_CHECKING:  # deferred, so that a display appears at once
    from dqnkit.evaluation.episodes import Evaluation
    from dqnkit.loops.base import IntervalMetrics
    from dqnkit.runs.result import TrainResult

_SPARKS = "▁▂▃▄▅▆▇█"
_WAIT_SECONDS = 10.0
"""Minimum time between two plain lines on what takes long beside training."""
_PLAIN_SECONDS = 5.0
"""Minimum time between two plain lines, which are printed after evaluations."""


def displayed(*, as_json: bool, quiet: bool) -> AbstractContextManager[Listener]:
    """Show the training of a run (`displays.displayed`)."""
    return displays.displayed(
        LiveTraining, PlainTraining, as_json=as_json, quiet=quiet, transient=False
    )


def print_result(result: TrainResult, *, as_json: bool, quiet: bool) -> None:
    """Print the result of a run; problems go to stderr in every mode."""
    warn(result.problems)
    if as_json:
        say_document(result.as_dict())
    elif not quiet:
        for label, text in _result_lines(result):
            say(f"{label:<10}{text}")


def _result_lines(result: TrainResult) -> list[tuple[str, str]]:
    best = result.best.summary
    lines = [
        (
            "best",
            f"{format_number(best.mean)} over {best.n} episodes, at step {result.best.env_steps:,}",
        ),
    ]
    if result.final is not None:
        lines.append(("final", _final(result.final)))
    lines.append(
        (
            "time",
            f"{result.seconds:.1f} s: compiling {result.compile_seconds:.1f} s, training "
            f"{result.training_seconds:.1f} s at {result.steps_per_second:,.0f} steps/s",
        )
    )
    if result.checkpoints:
        seconds, size = result.checkpoint_seconds, result.checkpoint_megabytes
        text = f"{result.checkpoints} checkpoints in {seconds:.2f} s, the last of {size:.1f} MB"
        lines.append(("saved", text))
    run = result.run_name + (f" ({result.run_id})" if result.run_id else "")
    return [*lines, ("run", run), *result.hints.items()]


def _final(final: Evaluation) -> str:
    summary = final.summary
    if final.interval is None:
        return f"{format_number(summary.mean)} in one fresh episode, which says little"
    iqm, low, high = map(format_number, (summary.iqm, *final.interval))
    return (
        f"mean {format_number(summary.mean)}, IQM {iqm} (95 % interval {low} to {high}) over "
        f"{summary.n} fresh episodes"
    )


class PlainTraining:
    """A listener that prints lines for pipes and logs, at most one per evaluation."""

    def __init__(self) -> None:
        self._total = 0
        self._exploration = "epsilon"
        self._metrics: IntervalMetrics | None = None
        self._rate = math.nan
        self._printed_at = -math.inf

    def __call__(self, event: Event) -> None:
        """Print an event."""
        match event:
            case RunPreparing(config, run_name):
                self._total = config.training.num_iterations
                self._exploration = config.exploration.parameter
                say(f"{_title(config)}  run {run_name}")
            case RunStarted():
                say(_started(event))
                self._printed_at = time.monotonic()
            case Progress():
                self._rate = event.steps_per_second
                self._metrics = event.metrics[-1] if event.metrics else self._metrics
            case Evaluated():
                self._evaluated(event)
            case Collecting() | Evaluating():
                self._waited(event)
            case Warned(text):
                warn([text])

    def _waited(self, event: Collecting | Evaluating) -> None:
        now = time.monotonic()
        if now - self._printed_at >= _WAIT_SECONDS:
            self._printed_at = now
            say(_activity(event))

    def _evaluated(self, event: Evaluated) -> None:
        now, iteration = time.monotonic(), event.evaluation.iteration
        if now - self._printed_at < _PLAIN_SECONDS and 0 < iteration < self._total:
            return
        self._printed_at = now
        columns = [
            f"iteration {iteration:>9,}/{self._total:,}",
            f"return {format_number(event.evaluation.summary.mean):>8}",
            f"best {format_number(event.best.summary.mean):>8}",
        ]
        if self._metrics is not None:
            columns += [
                f"loss {_number(self._metrics.loss)}",
                f"{self._exploration} {self._metrics.exploration:.3f}",
                f"{self._rate:,.0f} steps/s",
            ]
        say("  ".join(columns))


class LiveTraining(LiveDisplay):
    """Progress, speed, time left, evaluations, loss and exploration, redrawn in place."""

    def __init__(self) -> None:
        self._title = Text("dqnkit")
        self._spinner: Spinner | None = Spinner("dots", "loading TensorFlow")
        self._exploration = "epsilon"
        self._total, self._rate = 1, 0.0
        self._first = self._iteration = 0
        self._began = time.monotonic()
        self._metrics: IntervalMetrics | None = None
        self._train_return = math.nan
        self._last: Evaluation | None = None
        self._best: Evaluation | None = None
        self._returns: list[float] = []
        self._warnings: list[str] = []
        self._activity = ""

    @override
    def __call__(self, event: Event) -> None:
        self._activity = _activity(event)
        match event:
            case RunPreparing(config, run_name):
                self._total = config.training.num_iterations
                self._exploration = config.exploration.parameter
                self._title = Text.assemble((_title(config), "bold"), (f"  run {run_name}", "dim"))
                self._spinner = Spinner("dots", "compiling")
            case RunStarted():
                self._spinner = None
                self._began = time.monotonic()
                self._iteration = self._first = event.iteration
                self._title.append(f"  {_started(event)}", "dim")
            case Progress():
                self._progressed(event)
            case Evaluated():
                self._last, self._best = event.evaluation, event.best
                self._returns.append(event.evaluation.summary.mean)
            case Warned(text):
                self._warnings.append(text)

    def _progressed(self, event: Progress) -> None:
        self._iteration, self._rate = event.iteration, event.steps_per_second
        if event.metrics:
            self._metrics = event.metrics[-1]
            ended = [each.return_mean for each in event.metrics if each.episodes]
            self._train_return = ended[-1] if ended else self._train_return

    @override
    def __rich__(self) -> RenderableType:
        warnings = [warning(text) for text in self._warnings]
        if self._spinner is not None:
            return Group(self._title, *warnings, self._spinner)
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self._total, completed=self._iteration, width=32),
            f"{self._iteration:,}/{self._total:,} iterations",
            f"{self._rate:,.0f} steps/s",
            Text(self._activity or self._time_left(), "dim"),
        )
        return Group(self._title, *warnings, bar, self._table())

    def _time_left(self) -> str:
        elapsed = time.monotonic() - self._began
        if self._iteration >= self._total:
            return "done"
        done = self._iteration - self._first
        if not done:
            return ""
        seconds = elapsed * (self._total - self._iteration) / done
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        if self._last is not None and self._best is not None:
            last, best = self._last.summary, self._best
            table.add_row(
                Text("evaluation", "dim"),
                f"{format_number(last.mean)} ± {format_number(last.std)} (n={last.n})",
                Text("best", "dim"),
                Text(
                    f"{format_number(best.summary.mean)} at step {best.env_steps:,}", "bold green"
                ),
            )
        if self._metrics is not None:
            table.add_row(
                Text("training", "dim"),
                "-" if math.isnan(self._train_return) else format_number(self._train_return),
                Text("loss", "dim"),
                f"{_number(self._metrics.loss)}   "
                f"{self._exploration} {self._metrics.exploration:.3f}",
            )
        table.add_row(Text("curve", "dim"), Text(_sparkline(self._returns), "blue"))
        return table


def _activity(event: Event) -> str:
    """Return what a run does while it does not train; empty while it trains."""
    match event:
        case Collecting(env_steps, total):
            return f"initial steps: {env_steps:,} of {total:,}"
        case Evaluating(finished, total, steps):
            return f"evaluating: {finished:,} of {total:,} episodes, at step {steps:,}"
    return ""


def _title(config: Config) -> str:
    return f"{config.name} · {config.env.id} · {collecting(config)} · seed {config.training.seed}"


def _started(event: RunStarted) -> str:
    resumed = f", continues at iteration {event.iteration:,}" if event.iteration else ""
    return f"compiled in {event.compile_seconds:.1f} s{resumed}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _sparkline(values: list[float], width: int = 40) -> str:
    """Return the last `width` values as a row of bars."""
    shown = values[-width:]
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown) or 1.0
    return "".join(_SPARKS[int((v - low) / span * (len(_SPARKS) - 1))] for v in shown)
