"""How commands print: lines, tables, warnings, or one JSON document."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dqnkit._system.redaction import redact_secrets

_GAP = 2
"""Spaces between columns."""
_UNLIMITED = 10_000
"""Columns of an output that is not a terminal: whoever reads a pipe wants whole cells."""


@contextlib.contextmanager
def stdout_for_the_document(*, as_json: bool) -> Iterator[None]:
    """Sends to stderr what an environment prints, its processes included."""
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
    """A line on stderr that says what is waited for, gone when it is there; terminals only."""
    console = Console(stderr=True, highlight=False)
    if not (shown and console.is_terminal):
        yield
        return
    with console.status(text):
        yield


def say(text: str) -> None:
    """Prints a line. A reader who has left, as `head` does, stops the printing, not the work."""
    try:
        print(text, flush=True)  # noqa: T201 - typer's echo ends the process instead
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(problems: Iterable[str]) -> None:
    """Tells on stderr, in every mode, what went wrong beside the result."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(Text.assemble(("warning: ", "bold yellow"), redact_secrets(problem)))


def say_document(document: Any) -> None:
    """Prints JSON, which has no NaN and no infinity: null stands for them."""
    say(json.dumps(_finite(document), indent=2))


@dataclass(frozen=True)
class Column:
    """A table's column."""

    name: str
    left: bool = False
    """Aligned to the left; numbers are not."""
    spare: int = 0
    """Left out where the terminal is too narrow: the highest first, 0 never."""


def say_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, without its spare columns where they do not fit."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    shown = _fitting(columns, rows, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for place in shown:
        column = columns[place]
        justify: Literal["left", "right"] = "left" if column.left else "right"
        table.add_column(column.name, justify=justify, overflow="fold")
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
