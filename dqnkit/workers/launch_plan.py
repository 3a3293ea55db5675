"""The launcher of a placement, with the number of workers that it has room for."""

from __future__ import annotations

from dataclasses import dataclass

from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.processes.launcher import Launcher, LocalLauncher
from dqnkit.tracking.location import locate_store
from dqnkit.workers.placement import Placement
from dqnkit.workers.pool import available_cores


@dataclass(frozen=True)
class LaunchPlan:
    """A launcher, with the number of workers that it has room for."""

    launcher: Launcher
    capacity: int
    tracking_uri: str | None
    """URI of the store, valid in the workers' working directories too; None records nothing."""


def make_launch_plan(placement: Placement, tracking_uri: str | None) -> LaunchPlan:
    """Make the launcher of a placement; the caller, or a pool that it is given to, closes it.

    Raises:
      ArgumentError: If Ray has no node for a worker, or its nodes cannot reach the store.
      ConfigError: If Ray is not installed.
      WorkerError: If the cluster does not answer.
    """
    if placement.launcher == "local":
        return LaunchPlan(LocalLauncher(), available_cores(), tracking_uri)
    from dqnkit.workers.ray_cluster import RayLauncher  # an optional dependency

    launcher = RayLauncher(placement)
    try:
        uri = _reachable(tracking_uri, launcher.other_nodes)
    except ConfigError:
        launcher.close()
        raise
    return LaunchPlan(launcher, launcher.capacity, uri)


def _reachable(tracking_uri: str | None, other_nodes: list[str]) -> str | None:
    """Return a URI of the store that is valid in other folders and on other machines.

    Raises:
      ArgumentError: If the store is a file of this machine.
    """
    if tracking_uri is None:
        return None
    store = locate_store(tracking_uri)
    if store.database is not None and other_nodes:
        raise ArgumentError(
            "launcher",
            "ray",
            f"nodes of the cluster ({', '.join(other_nodes[:3])}) cannot write {store.database} on "
            "this machine: choose an MLflow server with `tracking_uri`",
        )
    return store.uri
