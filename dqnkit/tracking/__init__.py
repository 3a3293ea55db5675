"""Records of runs, in MLflow. The only package that imports mlflow, and only to record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqnkit.config.sections import Config
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.tracker import NO_PARENT, NullTracker, ParentRun, Tracker

if TYPE_CHECKING:
    from dqnkit.tracking.family import ParentTracker


def make_tracker(
    config: Config, tracking_uri: str | None = None, belongs_to: ParentRun = NO_PARENT
) -> Tracker:
    """A tracker for one run, as configuration and URI have it (see `store.resolve`)."""
    if not config.tracking.enabled:
        return NullTracker()
    from dqnkit.tracking.mlflow_tracker import MlflowTracker  # not without a record

    return MlflowTracker(locate_store(tracking_uri).make(), belongs_to)


def make_parent_tracker(
    config: Config, tracking_uri: str | None = None, belongs_to: ParentRun = NO_PARENT
) -> ParentTracker:
    """A tracker for a run that others stand below (see `make_tracker`)."""
    from dqnkit.tracking.family import MlflowParentTracker, NullParentTracker

    if not config.tracking.enabled:
        return NullParentTracker()
    return MlflowParentTracker(locate_store(tracking_uri).make(), belongs_to)
