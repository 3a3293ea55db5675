"""Training with several seeds as a person sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cli.displays.workers import WorkerTable
from cli.formats import collecting, duration
from cli.output import Column, say, say_document, say_table, warn
from dqnkit.evaluation.formatting import format_interval, format_number

if TYPE_CHECKING:
    from dqnkit.config.sections import Config
    from dqnkit.workers.messages import Message, Task
    from dqnkit.workers.seed_group import SeedResult
    from dqnkit.workers.seeds import SeedsReporter, SeedsResult


@contextlib.contextmanager
def for_seeds(*, as_json: bool, quiet: bool) -> Iterator[SeedsReporter | None]:
    """The reporter that suits the output, shown while training goes on."""
    console = Console(highlight=False)
    if as_json or quiet:
        yield None
    elif console.is_terminal:
        live = LiveSeedsReporter()
        with Live(live, console=console, refresh_per_second=8, transient=True):
            yield live
    else:
        yield PlainSeedsReporter()


class PlainSeedsReporter:
    """A line a seed (`SeedsReporter`)."""

    def began(self, config: Config, run_name: str, seeds: Sequence[int]) -> None:
        """See `SeedsReporter`."""
        say(_title(config, run_name, seeds))

    def given(self, worker: int, task: Task) -> None:
        """See `WorkReporter`."""

    def heard(self, worker: int, message: Message) -> None:
        """See `WorkReporter`."""

    def result(self, result: SeedResult) -> None:
        """See `SeedsReporter`."""
        say(
            f"seed {result.seed:>4}  last evaluations {format_number(result.late_iqm):>8}  "
            f"best policy {format_number(result.final_mean):>8}  {duration(result.seconds)}"
        )


class LiveSeedsReporter:
    """Redrawn in place: how many seeds are done, and what each worker does (`SeedsReporter`)."""

    def __init__(self) -> None:
        self._title = Text("dqnkit train")
        self._done: list[SeedResult] = []
        self._total = 0
        self._workers = WorkerTable(0)

    def began(self, config: Config, run_name: str, seeds: Sequence[int]) -> None:
        """See `SeedsReporter`."""
        self._title = Text(_title(config, run_name, seeds), "bold")
        self._total = len(seeds)

    def given(self, worker: int, task: Task) -> None:
        """See `WorkReporter`."""
        self._workers.given(worker, task, f"seed {task.config.training.seed}")

    def heard(self, worker: int, message: Message) -> None:
        """See `WorkReporter`."""
        self._workers.heard(worker, message)

    def result(self, result: SeedResult) -> None:
        """See `SeedsReporter`."""
        self._done.append(result)

    def __rich__(self) -> RenderableType:
        """Called by rich at each redraw."""
        scores = ", ".join(f"{each.seed}: {format_number(each.late_iqm)}" for each in self._done)
        done = Text(f"{len(self._done)}/{self._total} seeds  ")
        done.append(scores, "green")
        return Group(self._title, done, self._workers)


def seeds_result(result: SeedsResult, *, as_json: bool, quiet: bool) -> None:
    """Prints what several seeds came to; problems go to stderr in every mode."""
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
    rows.append(
        [f"IQM over {scores.n}", format_interval(*scores.late), format_interval(*scores.final)]
    )
    say_table([Column("seed"), Column("last evaluations, IQM"), Column("best policy, mean")], rows)
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
