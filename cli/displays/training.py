"""Training as a person sees it: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.formats import collecting
from cli.output import say, say_document, warn
from dqnkit._system.redaction import redact_secrets
from dqnkit.config.sections import Config
from dqnkit.runs.reporting import Reporter, SilentReporter

if TYPE_CHECKING:  # these import TensorFlow
    from dqnkit.evaluation.episodes import Evaluation
    from dqnkit.loops.base import IntervalMetrics
    from dqnkit.runs.reporting import Progress
    from dqnkit.runs.result import TrainResult

_SPARKS = "▁▂▃▄▅▆▇█"
_PLAIN_SECONDS = 5.0
"""Plain progress lines come at evaluations, at most one in this time."""


@contextlib.contextmanager
def for_training(*, as_json: bool, quiet: bool) -> Iterator[Reporter]:
    """The reporter that suits the output, shown while training goes on."""
    console = Console(highlight=False)
    if as_json or quiet:
        yield QuietReporter()
    elif console.is_terminal:
        live = LiveReporter()
        with Live(live, console=console, refresh_per_second=8, transient=False):
            yield live
    else:
        yield PlainReporter()


def training_result(result: TrainResult, *, as_json: bool, quiet: bool) -> None:
    """Prints what a run came to; problems go to stderr in every mode."""
    warn(result.problems)
    if as_json:
        say_document(result.as_dict())
    elif not quiet:
        for label, text in _result_lines(result):
            say(f"{label:<10}{text}")


def _result_lines(result: TrainResult) -> list[tuple[str, str]]:
    best, final, (low, high) = result.best.summary, result.final.summary, result.final.interval
    return [
        ("best", f"{best.mean:.1f} over {best.n} episodes, at step {result.best.env_steps:,}"),
        (
            "final",
            f"mean {final.mean:.1f}, IQM {final.iqm:.1f} (95 % interval {low:.1f} to {high:.1f}) "
            f"over {final.n} fresh episodes of the best policy",
        ),
        (
            "time",
            f"{result.seconds:.1f} s: compiling {result.compile_seconds:.1f} s, training "
            f"{result.training_seconds:.1f} s at {result.steps_per_second:,.0f} steps/s",
        ),
        *_checkpoint_lines(result),
        ("run", result.run_name + (f" ({result.run_id})" if result.run_id else "")),
        *result.hints.items(),
    ]


def _checkpoint_lines(result: TrainResult) -> list[tuple[str, str]]:
    if not result.checkpoints:
        return []
    text = f"{result.checkpoints} in {result.checkpoint_seconds:.2f} s"
    return [("saved", f"checkpoints: {text}, the last of {result.checkpoint_megabytes:.1f} MB")]


class QuietReporter(SilentReporter):
    """Tells of what is wrong, and of nothing else."""

    def warned(self, text: str) -> None:
        """See `Reporter`."""
        warn([text])


class PlainReporter:
    """A line an evaluation, for pipes and logs."""

    def __init__(self) -> None:
        self._total = 0
        self._metrics: IntervalMetrics | None = None
        self._rate = math.nan
        self._said = -math.inf

    def preparing(self, config: Config, run_name: str) -> None:
        """See `Reporter`."""
        self._total = config.training.num_iterations
        self._exploration = config.exploration.parameter
        say(f"{_title(config)}  run {run_name}")

    def warned(self, text: str) -> None:
        """See `Reporter`."""
        warn([text])

    def started(self, compile_seconds: float, iteration: int) -> None:
        """See `Reporter`."""
        say(_begun(compile_seconds, iteration))

    def progressed(self, progress: Progress) -> None:
        """See `Reporter`."""
        self._rate = progress.steps_per_second
        self._metrics = progress.metrics[-1] if progress.metrics else self._metrics

    def evaluated(self, evaluation: Evaluation, best: Evaluation) -> None:
        """See `Reporter`."""
        now = time.monotonic()
        if now - self._said < _PLAIN_SECONDS and 0 < evaluation.iteration < self._total:
            return
        self._said = now
        parts = [
            f"iteration {evaluation.iteration:>9,}/{self._total:,}",
            f"return {evaluation.summary.mean:8.1f}",
            f"best {best.summary.mean:8.1f}",
        ]
        if self._metrics is not None:
            parts += [
                f"loss {_number(self._metrics.loss)}",
                f"{self._exploration} {self._metrics.exploration:.3f}",
                f"{self._rate:,.0f} steps/s",
            ]
        say("  ".join(parts))


class LiveReporter:
    """Redrawn in place: progress, speed, time left, evaluations, loss, exploration."""

    def __init__(self) -> None:
        self._title = Text("dqnkit")
        self._spinner: Spinner | None = Spinner("dots", "loading TensorFlow")
        self._total, self._rate = 1, 0.0
        self._first = self._iteration = 0
        self._began = time.monotonic()
        self._metrics: IntervalMetrics | None = None
        self._train_return = math.nan
        self._last: Evaluation | None = None
        self._best: Evaluation | None = None
        self._returns: list[float] = []
        self._warnings: list[str] = []

    def preparing(self, config: Config, run_name: str) -> None:
        """See `Reporter`."""
        self._total = config.training.num_iterations
        self._exploration = config.exploration.parameter
        self._title = Text.assemble((_title(config), "bold"), ("  run " + run_name, "dim"))
        self._spinner = Spinner("dots", "compiling")

    def warned(self, text: str) -> None:
        """See `Reporter`."""
        self._warnings.append(text)

    def started(self, compile_seconds: float, iteration: int) -> None:
        """See `Reporter`."""
        self._spinner = None
        self._began = time.monotonic()
        self._iteration = self._first = iteration
        self._title.append(f"  {_begun(compile_seconds, iteration)}", "dim")

    def progressed(self, progress: Progress) -> None:
        """See `Reporter`."""
        self._iteration, self._rate = progress.iteration, progress.steps_per_second
        if progress.metrics:
            self._metrics = progress.metrics[-1]
            ended = [m.return_mean for m in progress.metrics if m.episodes]
            self._train_return = ended[-1] if ended else self._train_return

    def evaluated(self, evaluation: Evaluation, best: Evaluation) -> None:
        """See `Reporter`."""
        self._last, self._best = evaluation, best
        self._returns.append(evaluation.summary.mean)

    def __rich__(self) -> RenderableType:
        """Called by rich at each redraw."""
        warnings = [
            Text.assemble(("warning: ", "bold yellow"), redact_secrets(text))
            for text in self._warnings
        ]
        if self._spinner is not None:
            return Group(self._title, *warnings, self._spinner)
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self._total, completed=self._iteration, width=32),
            f"{self._iteration:,}/{self._total:,} iterations",
            f"{self._rate:,.0f} steps/s",
            Text(self._time_left(), "dim"),
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
                f"{last.mean:.1f} ± {last.std:.1f} (n={last.n})",
                Text("best", "dim"),
                Text(f"{best.summary.mean:.1f} at step {best.env_steps:,}", "bold green"),
            )
        if self._metrics is not None:
            table.add_row(
                Text("training", "dim"),
                "-" if math.isnan(self._train_return) else f"{self._train_return:.1f}",
                Text("loss", "dim"),
                f"{_number(self._metrics.loss)}   "
                f"{self._exploration} {self._metrics.exploration:.3f}",
            )
        table.add_row(Text("curve", "dim"), Text(_sparkline(self._returns), "blue"))
        return table


def _title(config: Config) -> str:
    return f"{config.name} · {config.env.id} · {collecting(config)} · seed {config.training.seed}"


def _begun(compile_seconds: float, iteration: int) -> str:
    onwards = f", goes on from iteration {iteration:,}" if iteration else ""
    return f"compiled in {compile_seconds:.1f} s{onwards}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _sparkline(values: list[float], width: int = 40) -> str:
    """Evaluation means as a row of bars, the last `width` of them."""
    shown = values[-width:]
    if not shown:
        return ""
    low, span = min(shown), max(shown) - min(shown) or 1.0
    return "".join(_SPARKS[int((v - low) / span * (len(_SPARKS) - 1))] for v in shown)
