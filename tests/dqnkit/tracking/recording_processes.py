"""Processes that record a run; this module is imported in each of them, so without TensorFlow."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from dqnkit.events import RunStatus
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.tracker import RunHeader


def start_and_die() -> None:
    """Start a run, write its id to `run_id`, and die."""
    tracker = MlflowTracker(locate_store().make())
    tracker.start(RunHeader("another-experiment", "victim", {}))
    Path("run_id").write_text(str(tracker.run_id), encoding="utf-8")
    os.kill(os.getpid(), signal.SIGKILL)


def record_one_of_four() -> None:
    """Record a complete run."""
    tracker = MlflowTracker(locate_store().make())
    tracker.start(RunHeader("an-experiment", "one-of-four", {}))
    tracker.log({"m": 1.0}, 0)
    problems = tracker.finish(RunStatus.FINISHED)
    assert problems == [], problems
