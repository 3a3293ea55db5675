"""Construction of the tracker that a configuration selects."""

from __future__ import annotations

from dqnkit.config.sections import Config
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.tracker import NO_PARENT, ParentRun, Tracker


def make_tracker(
    config: Config, store: StoreLocation | None, parent: ParentRun = NO_PARENT
) -> Tracker:
    """Make the tracker of a run.

    Args:
      config: Configuration of the run; `tracking.enabled=false` records nothing.
      store: Location of the store; None records nothing.
      parent: The run's parent.

    Raises:
      ConfigError: If the store cannot be written.
    """
    if store is None or not config.tracking.enabled:
        return Tracker()
    return MlflowTracker(store.make(), parent)
