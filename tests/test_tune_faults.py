"""Searches that are killed, for real, with training that is real; trials are counted afterwards."""

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

from dqnkit.tracking import location
from dqnkit.tuning import storage

pytestmark = pytest.mark.slow

TRIALS = 8
SEARCH = [
    *("tune", "tutorial", "--trials", str(TRIALS), "--workers", "2", "--confirm", "1"),
    *("--study", "hunted", "--set", "training.num_iterations=6000"),
    *("--set", "evaluation.eval_interval=500", "--set", "evaluation.final_episodes=20"),
]


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(process: subprocess.Popen[str], ended: int) -> None:
    """Reads until so many trials have ended."""
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
    place = storage.resolve(None)
    return optuna.load_study(study_name="hunted", storage=place.open("hunted")).trials


def _runs() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(location.locate_store().uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(ids, max_results=1000))


def _check_the_end(process: subprocess.Popen[str]) -> None:
    """Exactly N trials ended, each with its finished run; nothing runs, nothing is missing."""
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    states = Counter(trial.state.name for trial in _trials())
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
def test_a_killed_worker_costs_one_trial_which_is_run_again(number: signal.Signals) -> None:
    process = _start(*SEARCH)
    _wait_for(process, 1)
    time.sleep(2.0)
    _workers(process)[0].send_signal(number)
    _check_the_end(process)
    failed = [trial for trial in _trials() if trial.state.name == "FAIL"]
    assert len(failed) <= 1
    for trial in failed:
        again = [t for t in _trials() if t.params == trial.params and t.number != trial.number]
        assert [each.state.is_finished() for each in again] == [True]


def test_a_killed_parent_costs_the_running_trials_and_the_next_start_runs_them_again() -> None:
    for kills in range(1, 4):
        process = _start(*SEARCH)
        _wait_for(process, 1)
        time.sleep(0.7 * kills)
        workers = _workers(process)
        assert len(workers) == 2
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs(workers, timeout=45)
        assert not alive
        assert len(gone) == 2
        states = Counter(trial.state.name for trial in _trials())
        assert states["RUNNING"] <= 2
    _check_the_end(_start(*SEARCH))


def test_an_interrupt_closes_all_and_says_how_to_go_on() -> None:
    process = _start(*SEARCH)
    _wait_for(process, 2)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted by SIGINT after" in out
    assert "tune --trials 8 --workers 2 --study hunted --confirm 1" in out
    assert "Traceback" not in out
    assert not [trial for trial in _trials() if trial.state.name == "RUNNING"]
    assert "RUNNING" not in {run.info.status for run in _runs()}
    _check_the_end(_start("tune", "--study", "hunted", "--trials", str(TRIALS), "--confirm", "1"))


def test_six_workers_start_on_an_empty_store() -> None:
    process = _start(*SEARCH, "--workers", "6", "--confirm", "0")
    _check_the_end(process)
    assert not [trial for trial in _trials() if trial.state.name == "FAIL"]
    assert Path("mlruns/mlflow.db").is_file()


def test_two_starts_work_on_one_study_and_end_as_many_trials_as_one() -> None:
    first = _start(*SEARCH, "--workers", "1", "--confirm", "0", "--seed", "5")
    _wait_for(first, 1)
    second = _start(*SEARCH, "--workers", "1", "--confirm", "0", "--seed", "5")
    ended, _ = second.communicate(timeout=600)
    first.communicate(timeout=600)
    assert (first.returncode, second.returncode) == (0, 0), ended
    states = Counter(trial.state.name for trial in _trials())
    assert states["COMPLETE"] + states["PRUNED"] == TRIALS
    assert states["RUNNING"] == states["WAITING"] == 0
