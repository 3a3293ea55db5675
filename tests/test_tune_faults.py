"""Real searches whose processes are killed or interrupted; their trials are counted afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from dqnkit.tracking.location import locate_store
from dqnkit.tuning.storage import locate_storage

pytestmark = pytest.mark.slow

TRIALS = 8
SEARCH = [
    *("tune", "tutorial", "--trials", str(TRIALS), "--workers", "2", "--confirm", "1"),
    *("--study", "faulty", "--set", "training.num_iterations=6000"),
    *("--set", "evaluation.eval_interval=500", "--set", "evaluation.final_episodes=20"),
]


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for_trials(process: subprocess.Popen[str], ended: int) -> None:
    """Read the output until so many trials have ended."""
    assert process.stdout is not None
    for line in process.stdout:
        ended -= " complete " in line or " pruned " in line
        if ended <= 0:
            return
    pytest.fail("the search ended by itself")


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def _trials() -> list[optuna.trial.FrozenTrial]:
    storage = locate_storage(None).open("faulty")
    return optuna.load_study(study_name="faulty", storage=storage).trials


def _states() -> Counter[str]:
    return Counter(trial.state.name for trial in _trials())


def _runs() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(locate_store().uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(ids, max_results=1000))


def _check_complete(process: subprocess.Popen[str]) -> None:
    """Check that a search ends with exactly N trials, each with its finished run."""
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    states = _states()
    assert states["COMPLETE"] + states["PRUNED"] == TRIALS
    assert states["RUNNING"] == states["WAITING"] == 0
    runs = _runs()
    assert "RUNNING" not in {run.info.status for run in runs}
    trials = [run for run in runs if "dqnkit.trial" in run.data.tags]
    ended = Counter(run.data.tags.get("trial.state") for run in trials)
    assert ended["complete"] + ended["pruned"] == TRIALS
    (study,) = [run for run in runs if run.data.tags.get("dqnkit.kind") == "study"]
    assert study.info.status == "FINISHED"
    for run in trials:
        if run.data.tags.get("trial.state") == "complete":
            assert run.data.metrics["late/return_iqm"] > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_costs_one_trial_which_is_repeated(number: signal.Signals) -> None:
    process = _start(*SEARCH)
    _wait_for_trials(process, 1)
    time.sleep(2.0)
    _workers(process)[0].send_signal(number)
    _check_complete(process)
    failed = [trial for trial in _trials() if trial.state.name == "FAIL"]
    assert len(failed) <= 1
    for trial in failed:
        again = [t for t in _trials() if t.params == trial.params and t.number != trial.number]
        assert [each.state.is_finished() for each in again] == [True]


def test_the_trials_of_a_killed_parent_are_repeated_by_the_next_start() -> None:
    for kills in range(1, 4):
        process = _start(*SEARCH)
        _wait_for_trials(process, 1)
        time.sleep(0.7 * kills)
        workers = _workers(process)
        assert len(workers) == 2
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs(workers, timeout=45)
        assert not alive
        assert len(gone) == 2
        assert _states()["RUNNING"] <= 2
    _check_complete(_start(*SEARCH))


def test_an_interrupt_closes_all_runs_and_prints_how_to_continue() -> None:
    process = _start(*SEARCH)
    _wait_for_trials(process, 2)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted by SIGINT after" in out
    assert "tune --trials 8 --workers 2 --study faulty --confirm 1" in out
    assert "Traceback" not in out
    assert _states()["RUNNING"] == 0
    assert "RUNNING" not in {run.info.status for run in _runs()}
    _check_complete(_start("tune", "--study", "faulty", "--trials", str(TRIALS), "--confirm", "1"))


def test_six_workers_start_on_an_empty_store() -> None:
    process = _start(*SEARCH, "--workers", "6", "--confirm", "0")
    _check_complete(process)
    assert _states()["FAIL"] == 0
    assert Path("mlruns/mlflow.db").is_file()


def test_two_processes_that_share_a_study_end_n_trials_together() -> None:
    first = _start(*SEARCH, "--workers", "1", "--confirm", "0", "--seed", "5")
    _wait_for_trials(first, 1)
    second = _start(*SEARCH, "--workers", "1", "--confirm", "0", "--seed", "5")
    out, _ = second.communicate(timeout=600)
    first.communicate(timeout=600)
    assert (first.returncode, second.returncode) == (0, 0), out
    states = _states()
    assert states["COMPLETE"] + states["PRUNED"] == TRIALS
    assert states["RUNNING"] == states["WAITING"] == 0
