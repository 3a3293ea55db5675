"""Printing: lines, tables, warnings, JSON, and the formats of times."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.messages import is_new, name_options
from dqnkit._system.redaction import redact_secrets
from dqnkit.evaluation.formatting import NOTHING

if TYPE_CHECKING:
    from dqnkit.config.sections import Config

_GAP = 2
"""Number of spaces between columns."""
_UNLIMITED = 10_000
"""Width of an output that is not a terminal, so that pipes get complete cells."""


@contextlib.contextmanager
def reserve_stdout(*, as_json: bool) -> Iterator[None]:
    """Redirect to stderr what environments and their processes print, if stdout is for JSON."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def waiting(text: str, *, shown: bool) -> Iterator[None]:
    """Show a status line on stderr during the body, on terminals only."""
    console = Console(stderr=True, highlight=False)
    if not (shown and console.is_terminal):
        yield
        return
    with console.status(text):
        yield


def say(text: str) -> None:
    """Print a line. A reader that has gone, such as `head`, ends the printing and not the work."""
    try:
        print(text, flush=True)  # noqa: T201 - typer's echo ends the process instead
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(problems: Iterable[str]) -> None:
    """Print problems on stderr, in every mode, each of them once per command."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in filter(is_new, problems):
        console.print(warning(problem))


def warning(problem: str) -> Text:
    """Return a problem as a warning (see `shown`)."""
    return Text.assemble(("warning: ", "bold yellow"), shown(problem))


def shown(problem: str) -> str:
    """Return a problem without secrets, and with options in place of arguments."""
    return redact_secrets(name_options(problem))


def say_document(document: Any) -> None:
    """Print a JSON document, with null for NaN and infinity; problems name options."""
    if isinstance(document, dict) and "problems" in document:
        document = document | {"problems": [shown(each) for each in document["problems"]]}
    say(json.dumps(_finite(document), indent=2))


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    left: bool = False
    """True to align to the left, as text; numbers align to the right."""
    spare: int = 0
    """Priority for leaving the column out of a narrow terminal: highest first, 0 never."""
    wraps: bool = True
    """False to wrap other columns first on a narrow terminal."""


def say_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, without spare columns that do not fit."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    shown = _fitting(columns, rows, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for place in shown:
        column = columns[place]
        justify: Literal["left", "right"] = "left" if column.left else "right"
        table.add_column(column.name, justify=justify, overflow="fold", no_wrap=not column.wraps)
    for row in rows:
        table.add_row(*(Text(row[place]) for place in shown))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        say(line.rstrip())


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    widths = [
        max(cell_len(text) for text in (column.name, *(row[place] for row in rows)))
        for place, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    while sum(widths[place] + _GAP for place in shown) - _GAP > width:
        spare = max(shown, key=lambda place: columns[place].spare)
        if not columns[spare].spare:
            break
        shown.remove(spare)
    return shown


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def duration(seconds: float | None) -> str:
    """Format a duration in its two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ago(moment: float) -> str:
    """Format the time since a moment, roughly."""
    seconds = max(0.0, time.time() - moment)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def collecting(config: Config) -> str:
    """Return the kind of loop, or the number of actors, in words."""
    actors = config.training.num_actors
    if actors is None:
        return f"{config.training.loop} loop"
    return f"{actors} actors" if actors else "actors on other hosts"
