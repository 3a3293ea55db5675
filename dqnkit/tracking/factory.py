"""Construction of the tracker that a configuration selects."""

from __future__ import annotations

from dqnkit.config.sections import Config
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.tracker import NO_PARENT, ParentRun, Tracker


def make_tracker(
    config: Config, tracking_uri: str | None = AUTO, parent: ParentRun = NO_PARENT
) -> Tracker:
    """Make the tracker of a run.

    Args:
      config: Configuration of the run; `tracking.enabled=false` records nothing.
      tracking_uri: URI of the store (`locate_store`); None records nothing.
      parent: The run's parent.

    Raises:
      ConfigError: If the URI is wrong or the store cannot be written.
    """
    if tracking_uri is None or not config.tracking.enabled:
        return Tracker()
    return MlflowTracker(locate_store(tracking_uri).make(), parent)
