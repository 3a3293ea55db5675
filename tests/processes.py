"""Commands in processes that tests kill, and comparison of the runs that they record."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from dqnkit._system import arrays
from dqnkit.tracking.location import AUTO, locate_store

FORKED = multiprocessing.get_context("forkserver")
"""Context whose processes start at once, with MLflow loaded; a spawned one takes two seconds.

They have the environment variables of the first one that was started, not those that a test sets
later. A module that cannot be preloaded is only loaded later, by each process.
"""
FORKED.set_forkserver_preload(["tests.fake_training", "mlflow.store.tracking.sqlalchemy_store"])

REPEATED = ("train/loss", "train/epsilon", "train/return_mean", "train/length_mean", "eval/")
REPEATED += ("best/", "final/", "late/", "train/episodes")
"""Prefixes of metrics that are bit for bit the same in every training of a configuration."""


class Training:
    """A `dqnkit` command in a process group of its own, whose output is read while it runs."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, seconds: float = 120.0) -> bool:
        """Wait for a line that contains a text; False if the process ends without one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(text in line for line in self.lines):
                return True
            if self.process.poll() is not None and not self._reader.is_alive():
                return any(text in line for line in self.lines)
            time.sleep(0.01)
        raise AssertionError(f"{text!r} was not printed: {self.output}")

    def has_ended(self, seconds: float) -> bool:
        """Wait for the end of the process; False if it takes longer."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, wait for the end of the process and return its exit code."""
        os.kill(self.process.pid, number)
        return self.ended()

    def ended(self, seconds: float = 300.0) -> int:
        """Wait for the end of the process and return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    @property
    def output(self) -> str:
        """The output so far, stdout and stderr together."""
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)


def client(uri: str = AUTO) -> Any:
    """Return MLflow's client of a store."""
    from mlflow import MlflowClient

    return MlflowClient(locate_store(uri).uri)


def runs(uri: str = AUTO) -> list[Any]:
    """Return all runs of a store, the latest first."""
    mlflow = client(uri)
    ids = [each.experiment_id for each in mlflow.search_experiments()]
    return list(mlflow.search_runs(ids, max_results=1_000))


def points(run: Any, uri: str = AUTO) -> dict[str, list[tuple[int, float]]]:
    """Return step and value of every point of each metric, in order, duplicates included."""
    mlflow = client(uri)
    return {
        key: sorted((p.step, p.value) for p in mlflow.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def repeated(run: Any, uri: str = AUTO) -> dict[str, list[tuple[int, float]]]:
    """Return the points of the metrics that every training of a configuration has alike."""
    found = points(run, uri)
    return {key: value for key, value in found.items() if key.startswith(REPEATED)}


def last_state(run: Any) -> dict[str, np.ndarray]:
    """Return the last checkpoint of a run without its clocks, from an embedded store."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    state = arrays.load_arrays(folder / "checkpoints" / "last.npz")
    return {name: value for name, value in state.items() if not name.startswith("run/clocks")}


def assert_same_state(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Assert that weights, optimizer, replay, counters and evaluations are bit for bit equal."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        np.testing.assert_array_equal(value, other[name], err_msg=name)
