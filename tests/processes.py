"""Training in processes of its own, to be killed, and records to be compared afterwards."""

from __future__ import annotations

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

REPEATED = ("train/loss", "train/epsilon", "train/return_mean", "train/length_mean", "eval/")
REPEATED += ("best/", "final/", "late/", "train/episodes")
"""What is the same each time that a run is trained, bit for bit; the rest is time."""


class Training:
    """A `dqnkit` command in a process group of its own, whose output is read as it comes."""

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
        """Waits until a line holds a text; False if the process has ended without it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(text in line for line in self.lines):
                return True
            if self.process.poll() is not None and not self._reader.is_alive():
                return any(text in line for line in self.lines)
            time.sleep(0.01)
        raise AssertionError(f"{text!r} did not come: {self.output}")

    def has_ended(self, seconds: float) -> bool:
        """Waits for the end, so long."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal and waits for the end; the exit code."""
        os.kill(self.process.pid, number)
        return self.ended()

    def ended(self, seconds: float = 300.0) -> int:
        """Waits for the end; the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    @property
    def output(self) -> str:
        """All that was said."""
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)


def client(uri: str = AUTO) -> Any:
    """MLflow's, of a store."""
    from mlflow import MlflowClient

    return MlflowClient(locate_store(uri).uri)


def runs(uri: str = AUTO) -> list[Any]:
    """All of a store, the latest first."""
    mlflow = client(uri)
    ids = [each.experiment_id for each in mlflow.search_experiments()]
    return list(mlflow.search_runs(ids, max_results=1_000))


def points(run: Any, uri: str = AUTO) -> dict[str, list[tuple[int, float]]]:
    """Every point of each metric, in order; those that stand there twice too."""
    mlflow = client(uri)
    return {
        key: sorted((p.step, p.value) for p in mlflow.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def repeated(run: Any, uri: str = AUTO) -> dict[str, list[tuple[int, float]]]:
    """The points of metrics that another training of the same configuration must have too."""
    found = points(run, uri)
    return {key: value for key, value in found.items() if key.startswith(REPEATED)}


def last_state(run: Any) -> dict[str, np.ndarray]:
    """What decides how training would go on, from an embedded store's artifact."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    state = arrays.load_arrays(folder / "checkpoints" / "last.npz")
    return {name: value for name, value in state.items() if not name.startswith("run/clocks")}


def assert_same_state(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Weights, optimizer, replay, counters, evaluations: bit for bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        np.testing.assert_array_equal(value, other[name], err_msg=name)
