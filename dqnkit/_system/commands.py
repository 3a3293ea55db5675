"""Command lines in messages."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def as_typed(command: str) -> str:
    """Return a command of this environment, such as `dqnkit ...`, in the form that works.

    The form is `uv run dqnkit ...` under uv, `dqnkit ...` if it is on the PATH, and its full path
    otherwise.
    """
    if "UV" in os.environ:
        return f"uv run {command}"
    program = command.partition(" ")[0]
    return command if shutil.which(program) else f"{Path(sys.executable).parent}/{command}"


def command_line(command: str, **arguments: str | bool | None) -> str:
    """Return the line of a `dqnkit` command, in the form that works in this environment.

    Args:
      command: Name of the command, such as `train`.
      arguments: Values by the names of arguments, which become options; None leaves one out. True
        is a flag, and False one that begins with `no-`.
    """
    options = [f" {_option(name, value)}" for name, value in arguments.items() if value is not None]
    return as_typed(f"dqnkit {command}{''.join(options)}")


def _option(name: str, value: str | bool) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {shlex.quote(value)}"
