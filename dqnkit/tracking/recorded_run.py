"""The record of a run as it is read from a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dqnkit.tracking.names import Metric


@dataclass(frozen=True)
class RecordedRun:
    """A run as it is recorded in a store."""

    id: str
    name: str
    experiment: str
    status: str
    """MLflow's status: RUNNING, FINISHED, FAILED or KILLED."""
    started: float
    """Seconds since the epoch."""
    ended: float | None
    """Seconds since the epoch; None while the run is running."""
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """Last value of each metric."""
    tags: Mapping[str, str]
    artifact_uri: str = ""
    """Address at which the store put the run's artifacts."""

    @property
    def label(self) -> str:
        """Name and short id, for messages."""
        return f"{self.name} ({self.id[:8]})"

    @property
    def env(self) -> str:
        """Gymnasium id of the environment."""
        return self.params.get("env.id", "")

    @property
    def score(self) -> float | None:
        """Interquartile mean of the best policy on fresh episodes; None before the end."""
        return self.metrics.get(Metric.FINAL_IQM)

    @property
    def seconds(self) -> float | None:
        """Duration in seconds; None while the run is running."""
        return None if self.ended is None else self.ended - self.started

    def as_dict(self) -> dict[str, Any]:
        """Return the run as a JSON document, without MLflow's own tags."""
        tags = {k: v for k, v in self.tags.items() if not k.startswith("mlflow.")}
        return {k: v for k, v in vars(self).items() if k != "artifact_uri"} | {"tags": tags}
