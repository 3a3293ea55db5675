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
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer import rich_utils
from typer.exceptions import Abort, TyperException

from cli.compare import compare
from cli.eval import evaluate
from cli.experiments import experiments, schema
from cli.render import render
from cli.replay_server import actor, replay_server
from cli.runs import runs
from cli.sync import sync
from cli.train import train
from cli.tune import tune
from cli.ui import ui
from dqnkit import __version__
from dqnkit._system.redaction import holds_password, redact_secrets
from dqnkit.errors import DqnkitError


class ExitCode(IntEnum):
    """What a shell is told."""

    DONE = 0
    FAILED = 1
    """A bug, or a fault outside."""
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
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from.")
    ] = False,
) -> None: ...


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; the exit code.

    The one place where exceptions become messages. `--traceback` may stand anywhere.
    """
    wants_traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        code = app(args=arguments, prog_name="dqnkit", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # Typer makes this of a KeyboardInterrupt, silently
            _say_error("interrupted")
        return int(code or ExitCode.DONE)
    except TyperException as error:
        if wants_traceback:
            _print_traceback()
        rich_utils.rich_format_error(error)  # type: ignore[arg-type]  # as typer itself calls it
        return ExitCode.MISUSED
    except DqnkitError as error:
        if wants_traceback:
            _print_traceback()
        _say_error("\n".join([str(error), *getattr(error, "__notes__", ())]))
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        _say_error("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has left: nothing to say, nobody to say it to
        return ExitCode.DONE
    except Exception as error:
        if wants_traceback:
            _print_traceback()
        _say_error(
            f"{type(error).__name__}: {error}\nThis is a fault of dqnkit or of what it runs on; "
            "--traceback shows where it came from."
        )
        return ExitCode.FAILED


def main() -> None:
    """The console script."""
    # As `python -m` does: `--env my_module:MyEnv-v0` names a module of the folder one stands in.
    sys.path.insert(0, "")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name in Greek must not break a terminal in C
            stream.reconfigure(errors="replace")
    # Ended by a signal, a command still removes what it has half done and ends what it started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    if any(map(holds_password, sys.argv[1:])):
        _say_warning(
            "everybody on this machine can read the password on your command line: leave it out, "
            "and give it by PGPASSWORD or ~/.pgpass, by MLFLOW_TRACKING_PASSWORD or ~/.netrc, or "
            "the whole URL by DQNKIT_STORAGE or MLFLOW_TRACKING_URI"
        )
    code = run(sys.argv[1:])
    if "tensorflow" in sys.modules:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """Ends the process without taking TensorFlow's and MLflow's modules apart.

    That takes Python two seconds after everything is done; exit handlers still run.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed by whoever read it
            stream.flush()
    os._exit(code)


def _say_error(message: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), redact_secrets(message)))


def _say_warning(message: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("warning: ", "yellow"), message))


def _print_traceback() -> None:
    sys.stderr.write(redact_secrets(traceback.format_exc()))


if __name__ == "__main__":
    main()
