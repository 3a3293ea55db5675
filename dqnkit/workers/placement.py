"""Placement of workers on this machine or on a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from dqnkit.errors import ArgumentError

LauncherName = Literal["local", "ray"]
_MAX_RESOURCES = 1_024.0


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Launcher of workers, and the resources that each one gets.

    Raises:
      ArgumentError: If a value is out of range, or applies only to Ray and Ray was not chosen.
    """

    launcher: LauncherName = "local"
    """`local` for processes of this machine, `ray` for tasks of a Ray cluster."""
    ray_address: str | None = None
    """Address of a cluster, `HOST:PORT`. None takes RAY_ADDRESS, or else the cluster that runs on
    this machine, or else one that is started for this call."""
    cpus: float = 1.0
    """CPUs per worker on a Ray cluster."""
    gpus: float = 0.0
    """GPUs that Ray reserves per worker; dqnkit itself trains on the CPU."""

    def __post_init__(self) -> None:
        if self.launcher != "ray":
            self._check_defaults()
        address = self.ray_address
        if address is not None and address.startswith("ray://"):
            raise ArgumentError(
                "ray_address",
                address,
                "workers connect to this process, which is impossible through Ray's client: run on "
                "a node of the cluster, with HOST:PORT or auto",
            )
        if address is not None and not re.fullmatch(r"auto|\S+:\d+", address):
            raise ArgumentError("ray_address", repr(address), "expected HOST:PORT, or auto")
        if not 0 < self.cpus <= _MAX_RESOURCES:
            problem = f"expected a number above 0, up to {_MAX_RESOURCES:g}"
            raise ArgumentError("cpus", f"{self.cpus:g}", problem)
        if not 0 <= self.gpus <= _MAX_RESOURCES:
            problem = f"expected a number from 0 to {_MAX_RESOURCES:g}"
            raise ArgumentError("gpus", f"{self.gpus:g}", problem)

    def _check_defaults(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "launcher" and value != each.default:
                problem = "applies only to a Ray cluster; choose `launcher` ray as well"
                raise ArgumentError(each.name, value, problem)

    def arguments(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each argument that differs from its default."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                yield each.name, f"{value:g}" if isinstance(value, float) else str(value)


LOCAL = Placement()
