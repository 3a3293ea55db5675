"""The interface to the record of a run; its base class records nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dqnkit.events import RunStatus
from dqnkit.tracking.policy_folder import PolicyFiles


@dataclass(frozen=True)
class ParentRun:
    """The parent of a run, and the tags that all runs below it share."""

    run_id: str | None = None
    """Id of the parent; None for a run of its own, or if nothing is recorded."""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics that the run logs at step 0."""


NO_PARENT = ParentRun()


@dataclass(frozen=True)
class RunHeader:
    """Everything that is known about a run when its record is opened."""

    experiment: str
    run_name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    """Markdown."""
    continues: str | None = None
    """Id of the run to continue; a new run is made if the store does not have it any more."""
    last_ended: float | None = None
    """End time of that run, in seconds since the epoch, when its checkpoint was read. The run is
    refused if it has been continued since."""
    is_shared: bool = False
    """True if other processes may write the same run at the same time."""
    repeats: bool = False
    """True if points that the run already has may be logged again; they are left out."""


class Tracker:
    """The record of one run. This base class records nothing.

    Calls come in the order `start`, the others, `finish`. Only `start` and `finish` wait for the
    store. If a store does not answer, training continues, and what the store did not receive is
    kept on disk and reported by `finish`.
    """

    keeps_files: bool = False
    """True if files are worth writing."""

    @property
    def run_id(self) -> str | None:
        """Id of the run once it is started; None if it is not recorded."""
        return None

    @property
    def folder(self) -> Path | None:
        """Folder on this machine for files that must outlive the process; None if there is none."""
        return None

    def start(self, header: RunHeader) -> list[str]:
        """Create or continue the run; return warnings for the user.

        Raises:
          TrackingError: If the store cannot be used.
          BusyRunError: If another process writes the run to continue.
        """
        del header
        return []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at an environment step; NaN values are left out."""

    def add_artifacts(self, folder: Path) -> None:
        """Add all files below a folder to the run's artifacts."""

    def add_policy(self, policy: PolicyFiles) -> None:
        """Add a policy as an MLflow model, under `policy`."""

    def describe(self, markdown: str) -> None:
        """Replace the run's description."""

    def sync_to_disk(self) -> None:
        """Make logged metrics survive a loss of power."""

    def take_over(self) -> None:
        """Make this process the owner of a shared run whose owner has died."""

    def hand_over(self, process: str | None) -> list[str]:
        """Close the record without ending the run, which another process continues.

        Args:
          process: Identity of that process, if one is known.

        Returns:
          Descriptions of what the store did not receive.
        """
        del process
        return []

    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        """End the run and send the rest of its record.

        Args:
          status: Final status of the run.
          patiently: True if there is time to wait for a slow store.

        Returns:
          Descriptions of what the store did not receive.
        """
        del status, patiently
        return []

    def command_line(self, command: str, **arguments: str | None) -> str | None:
        """Return the line of a `dqnkit` command that applies to the store of the record."""
        del command, arguments
        return None

    def hints(self, **shown: str) -> dict[str, str]:
        """Return a command that shows the record, or the address of its page, by a label.

        Args:
          shown: What is shown, as an argument of `dqnkit.tracking.pages.find_page`; by default the
            trainings of the run's experiment.
        """
        del shown
        return {}
