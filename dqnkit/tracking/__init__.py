"""Records of runs, in MLflow. The only package that imports mlflow, and only to record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqnkit.config.sections import Config
from dqnkit.tracking.location import resolve
from dqnkit.tracking.tracker import ALONE, Membership, NullTracker, Tracker

if TYPE_CHECKING:
    from dqnkit.tracking.family import FamilyTracker


def open_tracker(
    config: Config, tracking_uri: str | None = None, belongs_to: Membership = ALONE
) -> Tracker:
    """A tracker for one run, as configuration and URI have it (see `store.resolve`)."""
    if not config.tracking.enabled:
        return NullTracker()
    from dqnkit.tracking.mlflow_tracker import MlflowTracker  # not without a record

    return MlflowTracker(resolve(tracking_uri).make(), belongs_to)


def open_family_tracker(
    config: Config, tracking_uri: str | None = None, belongs_to: Membership = ALONE
) -> FamilyTracker:
    """A tracker for a run that others stand below (see `open_tracker`)."""
    from dqnkit.tracking.family import MlflowFamilyTracker, NullFamilyTracker

    if not config.tracking.enabled:
        return NullFamilyTracker()
    return MlflowFamilyTracker(resolve(tracking_uri).make(), belongs_to)
