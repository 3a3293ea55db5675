"""Every exception that can reach a user.

A message names what was given, what is allowed and what to do next. The library names
configuration keys and arguments; the command line (`cli.main`) replaces them by the names of
options and turns each exception into one message and an exit code.
"""

from __future__ import annotations

from typing import ClassVar


class DqnkitError(Exception):
    """Base class of failures that are explained to the user without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(DqnkitError):
    """The configuration, or the way a function was called, is wrong."""

    exit_code = 2


class ArgumentError(ConfigError):
    """A single argument of a public function is wrong.

    Attributes:
      argument: Name of the argument; the command line shows the option of that name.
      value: The value that was given.
      problem: Description of the mistake, with what is allowed and what to do.
    """

    def __init__(self, argument: str, value: object, problem: str) -> None:
        super().__init__(argument, value, problem)
        self.argument = argument
        self.value = value
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument}={self.value}: {self.problem}"


class UnsupportedEnvironmentError(ConfigError):
    """The environment is unknown, or its spaces are not supported by a DQN."""


class EnvironmentFailedError(DqnkitError):
    """The environment's own code raised an exception in `reset`, `step` or `render`."""


class PolicyError(DqnkitError):
    """A saved policy cannot be read, or no longer fits its environment."""


class CheckpointError(DqnkitError):
    """A checkpoint cannot be read, or is damaged."""


class RenderingError(DqnkitError):
    """A video cannot be written."""


class TrackingError(DqnkitError):
    """The tracking store cannot be reached or written."""


class BusyRunError(TrackingError):
    """Another process is writing the run."""


class StudyError(DqnkitError):
    """The storage of studies cannot be reached, or a search cannot continue."""


class ReplayError(DqnkitError):
    """A replay server cannot be reached, or supplies no transitions."""


class WorkerError(DqnkitError):
    """A worker process died or could not be started."""


class TrainingDivergedError(DqnkitError):
    """The loss or the weights are no longer finite."""


class InterruptedRun(DqnkitError):  # noqa: N818 - an interruption is not an error
    """A signal stopped the run; everything up to then is saved."""

    exit_code = 130
