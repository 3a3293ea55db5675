"""Messages of the library in the terms of the command line.

The library names arguments: `tracking_uri` in backticks, or in an `ArgumentError`. A user of the
command line knows them as options, such as --tracking-uri.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

from dqnkit.errors import ArgumentError, DqnkitError

if TYPE_CHECKING:
    from typer.core import TyperGroup

_RENAMED = {"num_seeds": "seeds", "run": "resume", "study": "from_study"}
"""Parameters of commands by the library's name of the argument, where the names differ."""

_options: ContextVar[Mapping[str, str]] = ContextVar("_options", default=MappingProxyType({}))
"""Options of the command that runs, by the library's names of their arguments."""

_warned: set[str] = set()
"""Problems of which the command has warned."""


def set_command(app: TyperGroup, command: str | None) -> None:
    """Let messages name the options of a command from now on; None for none."""
    _options.set(options_of(app, command))
    _warned.clear()


def is_new(problem: str) -> bool:
    """Return whether the command has not warned of a problem yet; from now on it has.

    Many problems are reported twice, by an event at once and in the result of the command.
    """
    is_known = problem in _warned
    _warned.add(problem)
    return not is_known


def options_of(app: TyperGroup, command: str | None) -> dict[str, str]:
    """Return the options of a command by the library's names of their arguments."""
    found = app.commands.get(command or "")
    if found is None:
        return {}
    options = {
        each.name: max(each.opts, key=len)
        for each in found.params
        if each.name and each.param_type_name == "option"
    }
    return {ours: options[its] for ours, its in _RENAMED.items() if its in options} | options


def explain(error: DqnkitError) -> str:
    """Return the message of an error and its notes, with options in place of arguments."""
    text, options = str(error), _options.get()
    if isinstance(error, ArgumentError) and error.argument in options:
        value = "" if error.value is True else f" {error.value}"  # a flag has none
        text = f"{options[error.argument]}{value}: {error.problem}"
    notes = getattr(error, "__notes__", ())
    return name_options("\n".join([text, *notes]))


def name_options(text: str) -> str:
    """Return a text with options in place of arguments in backticks."""
    options = _options.get()
    return re.sub(r"`([a-z_]+)`", lambda match: options.get(match[1], match[0]), text)
