"""What a store knows of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCORE = "final/return_iqm"
"""The metric that says how good a run's best policy is, on episodes that no choice was made by."""
LATE_IQM = "late/return_iqm"
"""The metric that says how good a run was at its end: the interquartile mean of the episodes of its
last evaluations, together."""
STUDY_TAG = "dqnkit.study"
"""Tag that names the study that a run is a trial of."""


@dataclass(frozen=True)
class RecordedRun:
    """A run of training, as it stands in the store."""

    id: str
    name: str
    experiment: str
    status: str
    started: float
    """Seconds since the epoch."""
    ended: float | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""
    tags: Mapping[str, str]
    artifact_uri: str = ""
    """Where its artifacts were put when it was made."""

    @property
    def label(self) -> str:
        """Name and short id, as messages have it."""
        return f"{self.name} ({self.id[:8]})"

    @property
    def env(self) -> str:
        """Gymnasium's id of what it plays."""
        return self.params.get("env.id", "")

    @property
    def score(self) -> float | None:
        """The interquartile mean of its best policy on fresh episodes; None until then."""
        return self.metrics.get(SCORE)

    @property
    def seconds(self) -> float | None:
        """From its start to its end; None while it runs."""
        return None if self.ended is None else self.ended - self.started

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "experiment": self.experiment,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "tags": {k: v for k, v in self.tags.items() if not k.startswith("mlflow.")},
        }
