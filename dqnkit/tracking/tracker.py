"""What a run tells its record, and the record that keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dqnkit.events import RunStatus
from dqnkit.tracking.policy_folder import PolicyFiles

KIND_TAG = "dqnkit.kind"
"""Tag of what a run is: `training`, `comparison`, or what others stand below: `study`, `trial` of
several seeds, `seeds`. Runs without it are not ours."""
COMPARISONS = "comparisons"
"""The experiment that keeps comparisons, which are no training."""


@dataclass(frozen=True)
class ParentRun:
    """What a run's record says of the larger thing that it is part of."""

    parent: str | None = None
    """Id of the run that it stands below."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """That the run has besides its own."""


NO_PARENT = ParentRun()
"""Part of nothing."""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run when it starts."""

    experiment: str
    run_name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    """Markdown."""
    continues: str | None = None
    """Id of an earlier record that goes on; a new one is made where the store has it no more."""
    last_ended: float | None = None
    """When that ended, in seconds since the epoch, by who decided that it goes on; it does not if
    it has gone on already since."""
    is_shared: bool = False
    """Whether other processes may write the same run at the same time."""
    repeats: bool = False
    """Whether it may log again what the earlier record has: such points are left out."""


class Tracker(Protocol):
    """A record of one run. Calls come in the order `start`, others, `finish`.

    All else may be sent later; only `start` and `finish` wait. A store that does not answer costs
    neither the run nor the record: what it did not get is kept, and told by `finish`.
    """

    @property
    def keeps_files(self) -> bool:
        """Whether files are worth writing."""

    @property
    def run_id(self) -> str | None:
        """The run's id, once started; None if nothing is kept."""

    @property
    def folder(self) -> Path | None:
        """Where, once started, the run may keep what must outlive its process; None is nowhere."""

    def start(self, record: RunRecord) -> list[str]:
        """Creates the run.

        Returns:
          What the user should know at once, in words.

        Raises:
          TrackingError: The store cannot be used.
        """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics at an environment step; a NaN says that there was nothing to measure."""

    def artifacts(self, folder: Path) -> None:
        """Keeps all files below a folder."""

    def policy(self, policy: PolicyFiles) -> None:
        """Keeps a policy as an MLflow model, under `policy`."""

    def describe(self, markdown: str) -> None:
        """Replaces the run's description."""

    def secure(self) -> None:
        """Makes what was logged outlive a loss of power."""

    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        """Sends what is left and closes the run.

        Args:
          status: It ended with.
          patiently: Whether there is time to wait for a store that is slow.

        Returns:
          What it has not got, in words.
        """

    def command(self, words: str) -> str | None:
        """The command line of ours that does something with the record; None if there is none."""

    def hints(self) -> dict[str, str]:
        """Where a person finds the record: the command that shows it, the page to open."""


class NullTracker:
    """Keeps nothing (`Tracker`)."""

    keeps_files = False
    run_id: str | None = None
    folder: Path | None = None

    def start(self, record: RunRecord) -> list[str]:
        """See `Tracker`."""
        del record
        return []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""

    def artifacts(self, folder: Path) -> None:
        """See `Tracker`."""

    def policy(self, policy: PolicyFiles) -> None:
        """See `Tracker`."""

    def describe(self, markdown: str) -> None:
        """See `Tracker`."""

    def secure(self) -> None:
        """See `Tracker`."""

    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        """See `Tracker`."""
        del status, patiently
        return []

    def command(self, words: str) -> str | None:
        """See `Tracker`."""
        del words
        return None

    def hints(self) -> dict[str, str]:
        """See `Tracker`."""
        return {}
