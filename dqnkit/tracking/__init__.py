"""Records of runs, in MLflow. The only package that imports mlflow, and only to record."""

from __future__ import annotations

from dqnkit.config import Config
from dqnkit.tracking.store import resolve
from dqnkit.tracking.tracker import NullTracker, Tracker


def open_tracker(config: Config, tracking_uri: str | None = None) -> Tracker:
    """A tracker for one run, as configuration and URI have it (see `store.resolve`)."""
    if not config.tracking.enabled:
        return NullTracker()
    from dqnkit.tracking.mlflow_tracker import MlflowTracker  # not without a record

    return MlflowTracker(resolve(tracking_uri).make())
