"""The training of several seeds: a live display, plain lines, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text
from typing_extensions import override

from cli import displays
from cli.displays import LiveDisplay
from cli.displays.workers import WorkerTable
from cli.output import Column, collecting, duration, say, say_document, say_table, warn
from dqnkit.evaluation.formatting import format_interval, format_number
from dqnkit.events import (
    Event,
    Listener,
    RunAssigned,
    SeedEnded,
    SeedsStarted,
    Warned,
    WorkerEvent,
)

if TYPE_CHECKING:  # deferred, so that a display appears at once
    from dqnkit.config.sections import Config
    from dqnkit.workers.seed_group import SeedResult
    from dqnkit.workers.seeds import SeedsResult


def displayed(*, as_json: bool, quiet: bool) -> AbstractContextManager[Listener]:
    """Show the training of several seeds (`displays.displayed`)."""
    return displays.displayed(
        LiveSeeds, lambda: print_seed, as_json=as_json, quiet=quiet, transient=True
    )


def print_seed(event: Event) -> None:
    """Print a line per seed, for pipes and logs."""
    match event:
        case SeedsStarted(config, run_name, seeds):
            say(_title(config, run_name, seeds))
        case Warned(text) | WorkerEvent(event=Warned(text)):
            warn([text])
        case SeedEnded(result):
            say(
                f"seed {result.seed:>4}  last evaluations {format_number(result.late_iqm):>8}  "
                f"best policy {format_number(result.final_mean):>8}  {duration(result.seconds)}"
            )


class LiveSeeds(LiveDisplay):
    """Seeds that are done, and the workers, redrawn in place."""

    def __init__(self) -> None:
        self._title = Text("dqnkit train")
        self._done: list[SeedResult] = []
        self._total = 0
        self._workers = WorkerTable(0)

    @override
    def __call__(self, event: Event) -> None:
        match event:
            case SeedsStarted(config, run_name, seeds):
                self._title = Text(_title(config, run_name, seeds), "bold")
                self._total = len(seeds)
            case RunAssigned(config=config):
                self._workers.assign(event, f"seed {config.training.seed}")
            case Warned(text) | WorkerEvent(event=Warned(text)):
                warn([text])
            case WorkerEvent():
                self._workers.update(event)
            case SeedEnded(result):
                self._done.append(result)

    @override
    def __rich__(self) -> RenderableType:
        if not self._total:
            return self._title
        done = Text(f"{len(self._done)}/{self._total} seeds")
        if self._done:
            scores = [f"{format_number(each.late_iqm)} (seed {each.seed})" for each in self._done]
            done.append("  last evaluations, IQM  ", "dim").append(", ".join(scores), "green")
        return Group(self._title, done, self._workers)


def print_result(result: SeedsResult, *, as_json: bool, quiet: bool) -> None:
    """Print the result of several seeds; problems go to stderr in every mode."""
    warn(result.problems)
    if as_json:
        say_document(result.as_dict())
    elif not quiet:
        _print(result)


def _print(result: SeedsResult) -> None:
    rows = [
        [str(each.seed), format_number(each.late_iqm), format_number(each.final_mean)]
        for each in result.seeds
    ]
    scores = result.scores
    total = [f"IQM over {scores.n}", format_interval(*scores.late), format_interval(*scores.final)]
    columns = [Column("seed"), Column("last evaluations, IQM"), Column("best policy, mean")]
    say_table(columns, [*rows, total])
    say("")
    say(f"{'time':<11}{duration(result.seconds)}")
    run = result.run_name + (f" ({result.run_id})" if result.run_id else "")
    for label, text in [("run", run), *result.hints.items()]:
        say(f"{label:<11}{text}")


def _title(config: Config, run_name: str, seeds: Sequence[int]) -> str:
    return (
        f"{config.name} · {config.env.id} · {collecting(config)} · seeds {seeds[0]} to "
        f"{seeds[-1]}  run {run_name}"
    )
