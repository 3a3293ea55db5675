"""The error boundary, the exit codes, the help, and what is imported for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import ExitCode
from dqnkit.errors import ConfigError, InterruptedRun, WorkerError
from tests.cli.conftest import Run, assert_misused
from tests.conftest import ROOT


def _raising(error: BaseException) -> object:
    def broken() -> list[str]:
        raise error

    return broken


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("no `storage`"), 2, "no `storage`"),  # `experiments` has no such option
        (WorkerError("died"), 1, "died"),
        (InterruptedRun("interrupted by SIGINT"), 130, "interrupted by SIGINT"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("inside"), 1, "ZeroDivisionError: inside\nThis is a bug in dqnkit or"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_exceptions_become_messages_and_exit_codes(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    monkeypatch.setattr("dqnkit.config.loading.experiment_names", _raising(error))
    actual, out, err = run("experiments")
    assert (actual, out) == (code, "")
    is_wanted = code == ExitCode.INTERRUPTED  # by the user, who made no mistake
    assert err.startswith(message if is_wanted else f"error: {message}")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [("experiments", "--traceback"), ("--traceback", "experiments")], ids=" ".join
)
def test_a_traceback_is_printed_on_request(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    error = ZeroDivisionError("postgresql://me:swordfish@host/db")
    monkeypatch.setattr("dqnkit.config.loading.experiment_names", _raising(error))
    code, _, err = run(*arguments)
    assert code == ExitCode.FAILED
    assert "Traceback" in err
    assert "swordfish" not in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian"], ["No such command 'trian'", "train"]),
        (["train", "--no-such-option"], ["--no-such-option"]),
        (["ui", "--port", "many"], ["--port", "integer"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    assert_misused(run(*arguments), *parts)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["train", "-h"], ["--version"]])
def test_help_and_version_have_exit_code_0(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert "dqnkit" in out


def test_help_lists_every_command(run: Run) -> None:
    _, out, _ = run("--help")
    assert [line.split()[1] for line in out.splitlines() if line.startswith("│ ")][-13:] == [
        *("train", "tune", "eval", "render", "compare", "runs", "show", "sync", "ui"),
        *("replay-server", "actor", "experiments", "schema"),
    ]


def _process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["tune", "--help"]])
def test_help_imports_neither_displays_nor_the_library(arguments: list[str]) -> None:
    code = f"""
import sys
from cli.main import run
assert run({arguments}) == 0
own = {{name for name in sys.modules if name.partition(".")[0] in {{"cli", "dqnkit"}}}}
commands = {{"compare", "eval", "experiments", "render", "replay_server", "runs", "show"}}
commands |= {{"sync", "train", "tune", "ui"}}
own -= {{f"cli.{{name}}" for name in commands | {{"main", "messages", "options"}}}}
own -= {{"cli", "dqnkit", "dqnkit.errors", "dqnkit._system", "dqnkit._system.redaction"}}
print("numpy" in sys.modules or sorted(own), file=sys.stderr)
"""
    result = _process(code)
    assert (result.returncode, result.stderr) == (0, "[]\n")


def test_a_password_on_the_command_line_is_warned_of() -> None:
    code = "from cli.main import main; main()"
    uri = "postgresql://me:swordfish@host/db"
    result = _process(code, "experiments", "no-such", uri)
    assert result.returncode == ExitCode.MISUSED
    assert result.stderr.startswith("warning: every user of this machine can read the password")
    assert "swordfish" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt_a_command(number: signal.Signals) -> None:
    code = f"""
import os
from cli import main
main.run = lambda _: os.kill(os.getpid(), {int(number)})
try:
    main.main()
except KeyboardInterrupt:
    print("interrupted")
"""
    assert _process(code).stdout == "interrupted\n"


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    code = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from cli import main
main.run = lambda _: os.kill(os.getpid(), signal.SIGHUP) or 0
main.main()
"""
    assert _process(code).returncode == 0


def test_environments_are_imported_from_the_working_directory() -> None:
    code = "from cli import main; import sys; main.run = lambda _: print(sys.path[0]); main.main()"
    assert _process(code).stdout == f"{Path.cwd()}\n"
