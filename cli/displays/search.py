"""A search: a live display, plain lines, and the result."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from cli import displays
from cli.displays import LiveDisplay
from cli.displays.workers import WorkerTable, clock, short_values
from cli.output import Column, duration, say, say_document, say_table, shown, warn, warning
from dqnkit.evaluation.formatting import format_interval, format_number
from dqnkit.events import (
    ConfirmationStarted,
    Event,
    Listener,
    RunAssigned,
    RunEnded,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkerEvent,
)

if TYPE_CHECKING:  # deferred, so that a display appears at once
    from dqnkit.tuning.results import TuneResult
    from dqnkit.tuning.standing import Standing

_WARNINGS_SHOWN = 5


def displayed(*, as_json: bool, quiet: bool) -> AbstractContextManager[Listener]:
    """Show a search (`displays.displayed`)."""
    return displays.displayed(
        LiveSearch, lambda: print_search, as_json=as_json, quiet=quiet, transient=True
    )


def print_search(event: Event) -> None:
    """Print a line per trial, for pipes and logs."""
    match event:
        case SearchStarted():
            say(_title(event))
        case TrialEnded():
            say(_ended_line(event))
        case ConfirmationStarted():
            say(_confirming_line(event))
        case Warned(text) | WorkerEvent(event=Warned(text)):
            say(shown(text))


class LiveSearch(LiveDisplay):
    """Counts, time left, the best trial so far, and the workers, redrawn in place."""

    def __init__(self) -> None:
        self._title = Text("dqnkit tune")
        self._workers = WorkerTable(0)
        self._standing: Standing | None = None
        self._labels: dict[str, tuple[str, str]] = {}
        """Label and values of each trial's run, by its name."""
        self._warnings: list[str] = []
        self._began = time.monotonic()
        self._ended_before = 0
        self._phase = ""
        self._confirmed, self._to_confirm = 0, 0

    @override
    def __call__(self, event: Event) -> None:
        match event:
            case SearchStarted():
                self._title = Text(_title(event), "bold")
                self._workers = WorkerTable(event.workers)
                self._standing = event.standing
                self._ended_before = event.standing.ended
            case RunAssigned():
                default = (_confirming_label(event), "")
                label, values = self._labels.get(event.run_name, default)
                self._workers.assign(event, label, values)
            case Warned(text) | WorkerEvent(event=Warned(text)):
                self._warnings.append(text)
            case WorkerEvent():
                self._workers.update(event)
                if self._to_confirm and isinstance(event.event, RunEnded):
                    self._confirmed += 1
            case TrialStarted(run_name, number, values):
                self._labels[run_name] = (f"trial {number}", short_values(values))
            case TrialEnded():
                self._standing = event.standing
            case ConfirmationStarted():
                self._phase = _confirming_line(event)
                self._to_confirm = event.runs_left
                self._began, self._ended_before = time.monotonic(), 0

    @override
    def __rich__(self) -> RenderableType:
        standing = self._standing
        if standing is None:
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
        lines += [warning(text) for text in self._warnings[-_WARNINGS_SHOWN:]]
        return Group(*lines)

    def _time_left(self, ended: int, total: int) -> str:
        done = ended - self._ended_before
        if done <= 0 or ended >= total:
            return ""
        return f"{clock((time.monotonic() - self._began) * (total - ended) / done)} left"


def print_result(result: TuneResult, *, as_json: bool, quiet: bool) -> None:
    """Print the result of a search; problems go to stderr in every mode."""
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
        Column("best policies, mean", spare=2),
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
        say(f"fresh seeds overturned the order of the search: trial {winner} wins")
    else:
        say(f"trial {winner} wins, on seeds that the search has not used")


def _closing(result: TuneResult) -> list[tuple[str, str]]:
    lines = [("time", f"{duration(result.seconds)}, search {duration(result.search_seconds)}")]
    if not result.confirmed:
        lines.append(
            ("winner", "not confirmed on other seeds, so that its score is too optimistic")
        )
    if result.model is not None:
        lines.append(("model", result.model))
    if result.run_id is not None:
        lines.append(("run", f"{result.study} ({result.run_id})"))
    again = f"{result.hints['repeat']} --seed {result.fresh_seed} --seeds 5"
    return [*lines, *result.hints.items(), ("new seeds", again)]


def _title(event: SearchStarted) -> str:
    workers = f"{event.workers} worker{'s' if event.workers > 1 else ''}"
    title = f"{event.experiment} · study {event.study} · {workers}"
    before = event.standing.ended
    return f"{title} · continues after {before} trials" if before else title


def _counts(standing: Standing) -> str:
    return (
        f"{standing.complete} complete, {standing.pruned} pruned, {standing.failed} failed, of "
        f"{standing.total}"
    )


def _ended_line(event: TrialEnded) -> str:
    standing, best = event.standing, event.standing.best
    columns = [
        f"trial {event.number:>4} {event.state:<9}",
        f"{format_number(event.value):>8}",
        f"  {standing.ended}/{standing.total}",
        f"best {format_number(best.value)} by trial {best.number}" if best else "",
    ]
    return " ".join(columns).rstrip()


def _confirming_line(event: ConfirmationStarted) -> str:
    trials = ", ".join(str(each.number) for each in event.candidates)
    several = "s" if len(event.candidates) > 1 else ""
    seeds = f"{event.seeds[0]} to {event.seeds[-1]}"
    return f"confirming trial{several} {trials} on fresh seeds {seeds}"


def _confirming_label(event: RunAssigned) -> str:
    trial = event.run_name.rpartition("-t")[2].partition("-")[0].lstrip("0") or "0"
    return f"trial {trial}, seed {event.config.training.seed}"
