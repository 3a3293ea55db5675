"""Every exception that a user may meet. `cli.main` turns them into one message and an exit code.

A message names what was given, what is allowed and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class DqnkitError(Exception):
    """A failure that is explained to the user without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(DqnkitError):
    """The configuration, or the way a command was called, is wrong."""

    exit_code = 2


class UnsupportedEnvironmentError(ConfigError):
    """The environment is unknown, or of a kind that a DQN cannot act in."""


class EnvironmentFailedError(DqnkitError):
    """The environment's own code raised while it was stepped or reset."""


class PolicyError(DqnkitError):
    """A saved policy cannot be read, or does not fit its environment any more."""


class CheckpointError(DqnkitError):
    """A checkpoint cannot be read, or is not what was written."""


class RenderingError(DqnkitError):
    """A video cannot be written."""


class TrackingError(DqnkitError):
    """The tracking store cannot be reached or written."""


class BusyRunError(TrackingError):
    """Another process writes the run."""


class StudyError(DqnkitError):
    """The storage of studies cannot be reached, or a search cannot go on."""


class ReplayError(DqnkitError):
    """A server of experience replay cannot be reached, or gives nothing."""


class WorkerError(DqnkitError):
    """A process that trains died, or could not start."""


class TrainingDivergedError(DqnkitError):
    """The loss is no longer a finite number."""


class InterruptedRun(DqnkitError):  # noqa: N818 - an interruption is not an error
    """The run was stopped by a signal; what it had is saved."""

    exit_code = 130
