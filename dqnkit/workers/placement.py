"""Which launcher, and as many workers as it has room for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from dqnkit.errors import ConfigError
from dqnkit.processes.launcher import Launcher, LocalLauncher
from dqnkit.tracking import location
from dqnkit.workers.pool import default_size

LauncherName = Literal["local", "ray"]
_MOST = 1_024.0


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where workers run.

    Raises:
      ConfigError: A number is out of its range, or something is for Ray and that was not chosen.
    """

    launcher: LauncherName = "local"
    """Processes of this machine, or tasks of a Ray cluster."""
    ray_address: str | None = None
    """Of a cluster, `host:port`; None takes the one of RAY_ADDRESS, the one that runs on this
    machine, or one that is started for this call."""
    cpus: float = 1.0
    """Of each worker, on a Ray cluster."""
    gpus: float = 0.0
    """Of each worker, on a Ray cluster; a part of one may be shared."""

    def __post_init__(self) -> None:
        if self.launcher != "ray":
            for each in fields(self):
                if each.name != "launcher" and getattr(self, each.name) != each.default:
                    raise ConfigError(
                        f"{_option(each.name)} {getattr(self, each.name)}: is for a Ray cluster; "
                        "give --launcher ray as well"
                    )
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise ConfigError(
                f"--ray-address {self.ray_address}: workers connect to this process, which Ray's "
                "client cannot offer them: run on a node of the cluster, with host:port or auto"
            )
        if self.ray_address is not None and not re.fullmatch(r"auto|\S+:\d+", self.ray_address):
            raise ConfigError(f"--ray-address {self.ray_address!r}: give HOST:PORT, or auto")
        if not 0 < self.cpus <= _MOST:
            raise ConfigError(f"--cpus {self.cpus:g}: give a number above 0, up to {_MOST:g}")
        if not 0 <= self.gpus <= _MOST:
            raise ConfigError(f"--gpus {self.gpus:g}: give a number from 0 to {_MOST:g}")

    def arguments(self) -> Iterator[str]:
        """As commands take them; what is as ever is left out."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                yield _option(each.name)
                yield f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Workplace:
    """What to start workers with."""

    launcher: Launcher
    capacity: int
    """Workers that there is room for."""
    tracking_uri: str | None
    """That means the same store wherever a worker runs."""


def make_launcher(options: Placement, tracking_uri: str | None) -> Workplace:
    """Opens a launcher; whoever calls closes it, as a pool does.

    Raises:
      ConfigError: Ray is not installed, has no node for it, or its nodes cannot reach the store.
      WorkerError: The cluster does not answer.
    """
    if options.launcher == "local":
        return Workplace(LocalLauncher(), default_size(), tracking_uri)
    from dqnkit.workers.ray_cluster import RayLauncher  # which few have

    launcher = RayLauncher(options)
    try:
        uri = _reachable(tracking_uri, launcher.other_nodes)
    except ConfigError:
        launcher.close()
        raise
    return Workplace(launcher, launcher.capacity, uri)


def _reachable(tracking_uri: str | None, other_nodes: list[str]) -> str:
    """The URI for workers that stand in another folder, or on another machine.

    Raises:
      ConfigError: The store is a file of this one.
    """
    found = location.locate_store(tracking_uri)
    if found.database is not None and other_nodes:
        raise ConfigError(
            f"--launcher ray: nodes of the cluster ({', '.join(other_nodes[:3])}) cannot write "
            f"{found.database} on this machine: name an MLflow server by --tracking-uri"
        )
    return found.uri


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
