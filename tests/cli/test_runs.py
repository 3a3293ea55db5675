from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dqnkit._system.commands import command_line
from tests.cli.conftest import Run, assert_misused, record_solved
from tests.conftest import ROOT


def test_an_empty_store_has_a_hint_and_is_not_created(run: Run) -> None:
    code, out, err = run("runs")
    assert (code, err) == (0, "")
    assert out == "no runs; `dqnkit train` makes one, and --tracking-uri chooses another store\n"
    assert json.loads(run("runs", "--json")[1]) == []
    assert not Path("mlruns").exists()


def test_runs_are_listed_and_filtered(run: Run) -> None:
    run_id = record_solved()
    code, out, err = run("runs", "--status", "finished", "--experiment", "cartpole")
    assert (code, err) == (0, "")
    header, line = out.splitlines()
    assert header.split()[:4] == ["id", "run", "experiment", "status"]
    assert line.split()[:4] == [run_id[:8], "solved", "cartpole", "finished"]
    assert run("runs", "--status", "failed")[1].startswith("no runs match; ")
    (document,) = json.loads(run("runs", "--json")[1])
    assert (document["id"], document["metrics"]["final/return_iqm"]) == (run_id, 499.5)


def test_another_metric_to_sort_by_has_a_column(run: Run) -> None:
    record_solved()
    header, line = run("runs", "--sort", "final/return_max")[1].splitlines()
    assert (header.split()[-1], line.split()[-1]) == ("final/return_max", "500.0")
    assert run("runs", "--sort", "final/return_iqm")[1].split("\n")[0].split()[-1] == "started"


@pytest.mark.parametrize(
    ("count", "runs"), [(1, "1 run is not fully"), (2, "2 runs are not fully")]
)
def test_what_stores_have_not_received_is_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch, count: int, runs: str
) -> None:
    monkeypatch.setattr("dqnkit.tracking.outbox.count_undelivered", lambda _: count)
    monkeypatch.setattr("dqnkit.tracking.outbox.stores_with_undelivered", lambda _: ["http://x"])
    code, _, err = run("runs")
    assert code == 0
    elsewhere = command_line("sync", tracking_uri="http://x")
    assert err == (
        f"warning: runs of http://x are not fully delivered: `{elsewhere}` sends them\n"
        f"warning: {runs} in the store: `{command_line('sync')}` sends the rest, and "
        "`dqnkit train --resume RUN` continues the training\n"
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--status", "lost"], ["--status", "finished"]),
        (["--experiment", "x"], ["no experiment 'x'", "cartpole"]),
        (["--limit", "few"], ["--limit", "integer"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    record_solved()
    assert_misused(run("runs", *arguments), *parts)


def test_lists_and_comparisons_do_not_load_tensorflow() -> None:
    record_solved()
    code = """
import sys
from cli.main import run
assert run(["runs"]) == run(["compare", "latest"]) == 0
assert "mlflow" in sys.modules
sys.exit("tensorflow" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
