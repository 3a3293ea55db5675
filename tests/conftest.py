"""Shared by all tests: no test touches the caller's store, terminal or network."""

from __future__ import annotations

import signal
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
    for name in ("MLFLOW_TRACKING_URI", "DQNKIT_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def small() -> Callable[..., Config]:
    """A configuration that compiles fast and trains in a blink, with assignments on top."""

    def build(*assignments: str) -> Config:
        return loading.default_config(
            "small",
            [
                "network.fc_layer_params=[8]",
                "replay.replay_buffer_max_length=500",
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
    """Counts what was tried: `tally("kills")`. The sums stand below the tests' results."""

    def count(what: str, times: int = 1) -> None:
        request.node.user_properties.append((_TALLY + what, times))

    return count


def pytest_configure() -> None:
    """As in a terminal: under nohup, or behind `&`, all that tests start would ignore signals."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many kills, faults and inputs were tried."""
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
    """A PostgreSQL server; tests that need one are skipped where the system has none."""
    with running() as server:
        yield server
