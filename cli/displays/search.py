"""A search as a person sees it: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.displays.workers import WorkerTable, clock, short_values
from cli.formats import duration
from cli.output import Column, say, say_document, say_table, warn
from dqnkit.evaluation.formatting import format_interval, format_number
from dqnkit.tuning.standing import SilentTuneReporter, Standing, TrialScore, TuneReporter

if TYPE_CHECKING:
    from dqnkit.tuning.results import TuneResult
    from dqnkit.tuning.space import Values
    from dqnkit.workers.messages import Message, Task

_WARNINGS_SHOWN = 5


@contextlib.contextmanager
def for_search(*, as_json: bool, quiet: bool) -> Iterator[TuneReporter]:
    """The reporter that suits the output, shown while the search goes on."""
    console = Console(highlight=False)
    if as_json or quiet:
        yield SilentTuneReporter()
    elif console.is_terminal:
        live = LiveTuneReporter()
        with Live(live, console=console, refresh_per_second=8, transient=True):
            yield live
    else:
        yield PlainTuneReporter()


class PlainTuneReporter(SilentTuneReporter):
    """A line a trial, for pipes and logs."""

    def began(self, study: str, experiment: str, workers: int, standing: Standing) -> None:
        """See `TuneReporter`."""
        say(_title(study, experiment, workers, standing))

    def ended(self, number: int, state: str, value: float | None, standing: Standing) -> None:
        """See `TuneReporter`."""
        say(_ended_line(number, state, value, standing))

    def told(self, text: str) -> None:
        """See `TuneReporter`."""
        say(text)

    def confirming(self, candidates: Sequence[TrialScore], seeds: Sequence[int], left: int) -> None:
        """See `TuneReporter`."""
        del left
        say(_confirming_line(candidates, seeds))


class LiveTuneReporter:
    """Redrawn in place: counts, time left, the best so far, and what each worker does."""

    def __init__(self) -> None:
        self._title = Text("dqnkit tune")
        self._workers: WorkerTable | None = None
        self._standing: Standing | None = None
        self._labels: dict[str, tuple[str, str]] = {}
        self._told: list[str] = []
        self._began = time.monotonic()
        self._ended_before = 0
        self._phase = ""
        self._confirmed, self._to_confirm = 0, 0

    def began(self, study: str, experiment: str, workers: int, standing: Standing) -> None:
        """See `TuneReporter`."""
        self._title = Text(_title(study, experiment, workers, standing), "bold")
        self._workers = WorkerTable(workers)
        self._standing = standing
        self._ended_before = standing.ended

    def given(self, worker: int, task: Task) -> None:
        """See `WorkReporter`."""
        label, values = self._labels.get(task.run_name, (_confirming_label(task), ""))
        if self._workers is not None:
            self._workers.given(worker, task, label, values)

    def heard(self, worker: int, message: Message) -> None:
        """See `WorkReporter`."""
        if self._workers is not None:
            self._workers.heard(worker, message)
        if self._to_confirm and type(message).__name__ == "Ended":
            self._confirmed += 1

    def chose(self, run_name: str, number: int, values: Values) -> None:
        """See `TuneReporter`."""
        self._labels[run_name] = (f"trial {number}", short_values(values))

    def ended(self, number: int, state: str, value: float | None, standing: Standing) -> None:
        """See `TuneReporter`."""
        del number, state, value
        self._standing = standing

    def told(self, text: str) -> None:
        """See `TuneReporter`."""
        self._told.append(text)

    def confirming(self, candidates: Sequence[TrialScore], seeds: Sequence[int], left: int) -> None:
        """See `TuneReporter`."""
        self._phase = _confirming_line(candidates, seeds)
        self._to_confirm = left
        self._began, self._ended_before = time.monotonic(), 0

    def __rich__(self) -> RenderableType:
        """Called by rich at each redraw."""
        standing = self._standing
        if standing is None or self._workers is None:
            return self._title
        ended, total = standing.ended, standing.total
        if self._to_confirm:
            ended, total = self._confirmed, self._to_confirm
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=total, completed=ended, width=32),
            f"{ended}/{total} {'runs' if self._to_confirm else 'trials'}",
            Text(_counts(standing), "dim"),
            Text(self._time_left(ended, total), "dim"),
        )
        best = Text("best so far  ", "dim")
        if standing.best is None:
            best.append("-")
        else:
            best.append(format_number(standing.best.value), "bold green")
            best.append(f"  trial {standing.best.number}  {short_values(standing.best.values)}")
        lines: list[RenderableType] = [self._title, bar, best]
        if self._phase:
            lines.append(Text(self._phase, "bold"))
        lines.append(self._workers)
        lines += [Text(text, "yellow") for text in self._told[-_WARNINGS_SHOWN:]]
        return Group(*lines)

    def _time_left(self, ended: int, total: int) -> str:
        done = ended - self._ended_before
        if done <= 0 or ended >= total:
            return ""
        return f"{clock((time.monotonic() - self._began) * (total - ended) / done)} left"


def search_result(result: TuneResult, *, as_json: bool, quiet: bool) -> None:
    """Prints what a search came to; problems go to stderr in every mode."""
    warn(result.problems)
    if as_json:
        say_document(result.as_dict())
    elif not quiet:
        _print(result)


def _print(result: TuneResult) -> None:
    standing = result.standing
    say(f"study {result.study} · {result.experiment} · {result.env_id}: {_counts(standing)}")
    if standing.best is not None:
        best = standing.best
        say(
            f"best of the search: {format_number(best.value)} by trial {best.number} "
            f"({short_values(best.values)})"
        )
    if result.confirmed:
        say("")
        _print_confirmed(result)
    say("")
    for label, text in _closing(result):
        say(f"{label:<11}{text}")


def _print_confirmed(result: TuneResult) -> None:
    columns = [
        Column("trial"),
        Column("search"),
        Column("confirmed IQM (95 % interval)"),
        Column("seeds"),
        Column("its best policies", spare=2),
        Column("values", left=True, spare=1),
    ]
    rows = [
        [
            str(each.trial.number),
            format_number(each.trial.value),
            format_interval(*each.score),
            str(each.scores.n),
            format_interval(*each.scores.final),
            short_values(each.trial.values),
        ]
        for each in result.confirmed
    ]
    say_table(columns, rows)
    winner = result.confirmed[0].trial.number
    if result.was_overturned:
        say(f"fresh seeds overturned the search's order: trial {winner} wins")
    else:
        say(f"trial {winner} wins, on seeds that the search has not seen")


def _closing(result: TuneResult) -> list[tuple[str, str]]:
    lines = [("time", f"{duration(result.seconds)}, search {duration(result.search_seconds)}")]
    if not result.confirmed:
        lines.append(("winner", "not confirmed on other seeds: its score flatters"))
    if result.model is not None:
        lines.append(("model", result.model))
    if result.run_id is not None:
        lines.append(("run", f"{result.study} ({result.run_id})"))
    again = f"{result.hints['repeat']} --seed {result.fresh_seed} --seeds 5"
    return [*lines, *result.hints.items(), ("new seeds", again)]


def _title(study: str, experiment: str, workers: int, standing: Standing) -> str:
    title = f"{experiment} · study {study} · {workers} worker{'s' if workers > 1 else ''}"
    before = standing.complete + standing.pruned
    return f"{title} · goes on after {before} trials" if before else title


def _counts(standing: Standing) -> str:
    return (
        f"{standing.complete} complete, {standing.pruned} pruned, {standing.failed} failed, of "
        f"{standing.total}"
    )


def _ended_line(trial: int, state: str, value: float | None, standing: Standing) -> str:
    best = standing.best
    parts = [
        f"trial {trial:>4} {state:<9}",
        f"{format_number(value):>8}",
        f"  {standing.ended}/{standing.total}",
        f"best {format_number(best.value)} by trial {best.number}" if best else "",
    ]
    return " ".join(parts).rstrip()


def _confirming_line(candidates: Sequence[TrialScore], seeds: Sequence[int]) -> str:
    trials = ", ".join(str(each.number) for each in candidates)
    several = "s" if len(candidates) > 1 else ""
    return f"confirming trial{several} {trials} on fresh seeds {seeds[0]} to {seeds[-1]}"


def _confirming_label(task: Task) -> str:
    trial = task.run_name.rpartition("-t")[2].partition("-")[0].lstrip("0") or "0"
    return f"trial {trial}, seed {task.config.training.seed}"
