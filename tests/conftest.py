"""Fixtures of all tests, which keep tests away from the caller's store and terminal."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from tests.postgres import PostgresServer, running

_TALLY = "tried: "
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DQNKIT_STORAGE", "UV"):
        monkeypatch.delenv(name, raising=False)
    # With `dqnkit` on the PATH, messages name commands without their folder.
    programs = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", programs, prepend=os.pathsep)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def small() -> Callable[..., Config]:
    """Function that makes a configuration whose training takes seconds, with overrides on top.

    Its loop is the host loop, which starts three times as fast as the graph loop compiles.
    """

    def build(*assignments: str) -> Config:
        return loading.default_config(
            "small",
            [
                "network.fc_layer_params=[8]",
                "replay.replay_buffer_max_length=500",
                "training.loop=host",
                "training.num_iterations=60",
                "training.initial_collect_steps=20",
                "training.batch_size=8",
                "training.log_interval=10",
                "evaluation.num_eval_episodes=4",
                "evaluation.eval_interval=20",
                "evaluation.final_episodes=6",
                *assignments,
            ],
        )

    return build


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Function that counts attempts, as `tally("kills")`; sums are printed after the results."""

    def count(what: str, times: int = 1) -> None:
        request.node.user_properties.append((_TALLY + what, times))

    return count


def pytest_configure() -> None:
    """Handle signals as in a terminal, and collect garbage less often.

    Under nohup or behind `&`, child processes would ignore signals. Each training leaves a
    hundred thousand objects, and frequent collections would walk through all of them.
    """
    gc.set_threshold(200_000, 20, 100)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the numbers of kills, faults and inputs that were tried."""
    sums: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, times in report.user_properties:
                    if name.startswith(_TALLY):
                        sums[name.removeprefix(_TALLY)] += times
    if sums:
        tried = ", ".join(f"{times:,} {what}" for what, times in sorted(sums.items()))
        terminalreporter.write_line(f"tried: {tried}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; without PostgreSQL, the tests that need one are skipped."""
    with running() as server:
        yield server
