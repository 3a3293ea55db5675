"""The app, its error boundary and its exit codes."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.text import Text
from typer import rich_utils
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from cli.compare import compare
from cli.eval import evaluate
from cli.experiments import experiments, schema
from cli.messages import explain, set_command
from cli.render import render
from cli.replay_server import actor, replay_server
from cli.runs import runs
from cli.show import show
from cli.sync import sync
from cli.train import train
from cli.tune import tune
from cli.ui import ui
from dqnkit import __version__
from dqnkit._system.redaction import holds_password, redact_secrets
from dqnkit.errors import DqnkitError, InterruptedRun


class ExitCode(IntEnum):
    """Exit status of the process."""

    DONE = 0
    FAILED = 1
    """A bug, or an external fault."""
    MISUSED = 2
    """Wrong use or wrong configuration."""
    INTERRUPTED = 130


app = typer.Typer(
    name="dqnkit",
    help="Train, track, tune and render Deep Q-Networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(tune)
app.command("eval")(evaluate)
app.command()(render)
app.command()(compare)
app.command()(runs)
app.command()(show)
app.command()(sync)
app.command()(ui)
app.command("replay-server")(replay_server)
app.command()(actor)
app.command()(experiments)
app.command()(schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dqnkit {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
    _show_traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            help="Show the traceback of an error. May also be given after the command.",
        ),
    ] = False,
) -> None:
    set_command(cast("TyperGroup", context.command), context.invoked_subcommand)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status.

    This is the one place where exceptions become messages. `--traceback` may appear
    anywhere on the command line.
    """
    wants_traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        code = app(args=arguments, prog_name="dqnkit", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # Typer's silent answer to KeyboardInterrupt
            _print_plainly("interrupted")
        return int(code or ExitCode.DONE)
    except (KeyboardInterrupt, Abort):
        _print_plainly("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has gone, and so there is nothing to report
        return ExitCode.DONE
    except Exception as error:
        if wants_traceback:
            sys.stderr.write(redact_secrets(traceback.format_exc()))
        return _report(error)


def _report(error: Exception) -> int:
    """Print the message of an exception and return the exit status."""
    if isinstance(error, TyperException):
        error.message = redact_secrets(error.message)
        rich_utils.rich_format_error(error)  # type: ignore[arg-type]  # as typer itself calls it
        return ExitCode.MISUSED
    if isinstance(error, InterruptedRun):
        _print_plainly(explain(error))
        return ExitCode.INTERRUPTED
    if isinstance(error, DqnkitError):
        _print_error(explain(error))
        return error.exit_code
    _print_error(
        f"{type(error).__name__}: {error}\nThis is a bug in dqnkit or a problem of the system; "
        "--traceback shows where it happened."
    )
    return ExitCode.FAILED


def main() -> None:
    """Run the console script."""
    # Like `python -m`, search the working directory, so that `--env my_module:MyEnv-v0` works.
    with contextlib.suppress(FileNotFoundError):  # somebody has removed it
        sys.path.insert(0, str(Path.cwd()))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # non-ASCII names in the C locale
            stream.reconfigure(errors="replace")
    # A command that a signal ends still removes temporary files and ends its processes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)
    if any(map(holds_password, sys.argv[1:])):
        from cli.output import warn  # deferred, so that `--help` is quick

        problem = (
            "every user of this machine can read the password on your command line: give it by "
            "PGPASSWORD or ~/.pgpass, by MLFLOW_TRACKING_PASSWORD or ~/.netrc, or the whole URL by "
            "DQNKIT_STORAGE or MLFLOW_TRACKING_URI"
        )
        warn([problem])
    code = run(sys.argv[1:])
    if "tensorflow" in sys.modules:
        _exit_quickly(code)
    sys.exit(code)


def _exit_quickly(code: int) -> NoReturn:
    """Exit without tearing down TensorFlow's and MLflow's modules, which takes two seconds.

    Exit handlers still run.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed by its reader
            stream.flush()
    os._exit(code)


def _print_plainly(message: str) -> None:
    """Print a message that is no error, such as that of an interruption on request."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(redact_secrets(message)))


def _print_error(message: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), redact_secrets(message)))


if __name__ == "__main__":
    main()
