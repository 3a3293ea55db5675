"""Messages of the library in the terms of the command line.

The library names arguments: `tracking_uri` in backticks, or in an `ArgumentError`. A user of the
command line knows them as options, such as --tracking-uri.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from typer.core import TyperGroup

from dqnkit.errors import ArgumentError, DqnkitError

_RENAMED = {"num_seeds": "seeds"}
"""Arguments of the library whose option has another name."""


def explain(error: DqnkitError, options: Mapping[str, str]) -> str:
    """Return the message of an error and its notes, with options in place of arguments."""
    text = str(error)
    if isinstance(error, ArgumentError) and error.argument in options:
        text = f"{options[error.argument]} {error.value}: {error.problem}"
    notes = getattr(error, "__notes__", ())
    return name_options("\n".join([text, *notes]), options)


def name_options(text: str, options: Mapping[str, str]) -> str:
    """Return text with options in place of arguments in backticks."""
    return re.sub(r"`([a-z_]+)`", lambda match: options.get(match[1], match[0]), text)


def options_of(app: TyperGroup, command: str | None) -> dict[str, str]:
    """Return the options of a command by the names of their arguments; none for no command."""
    found = app.commands.get(command or "")
    if found is None:
        return {}
    options = {
        each.name: max(each.opts, key=len)
        for each in found.params
        if each.name and each.param_type_name == "option"
    }
    return options | {ours: options[its] for ours, its in _RENAMED.items() if its in options}
