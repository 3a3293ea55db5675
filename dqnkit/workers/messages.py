"""What a worker is told, and what it tells. Nothing here needs TensorFlow to be read."""

from __future__ import annotations

from dataclasses import dataclass

from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.events import RunStatus
from dqnkit.tracking.tracker import NO_PARENT, ParentRun


@dataclass(frozen=True)
class Task:
    """A run to train."""

    config: Config
    run_name: str
    belongs_to: ParentRun = NO_PARENT
    tracking_uri: str | None = None
    asks: bool = False
    """Wait after each evaluation until it is said whether to go on (`Verdict`)."""


@dataclass(frozen=True)
class Verdict:
    """Whether a run that asks goes on; else it ends as FINISHED, with what it has."""

    go_on: bool


@dataclass(frozen=True)
class Interrupt:
    """The run ends at its next chunk, as KILLED, with what it has."""


@dataclass(frozen=True)
class Ready:
    """The worker has loaded TensorFlow, and is free for a run."""


@dataclass(frozen=True)
class Retired:
    """The process leaves, since it has grown too large; another takes its place."""


@dataclass(frozen=True)
class Began:
    """The run is compiled, and its record is open."""

    run_id: str | None


@dataclass(frozen=True)
class Advanced:
    """A chunk of training is done."""

    iteration: int
    env_steps: int
    steps_per_second: float


@dataclass(frozen=True)
class Evaluated:
    """An evaluation is done."""

    evaluation: Evaluation
    late: Episodes
    """See `late_episodes`: of the evaluations until now."""
    asks: bool
    """Whether the run waits for a `Verdict`."""


@dataclass(frozen=True)
class Ended:
    """The run is over, and its record is closed."""

    run_id: str | None
    run_name: str
    status: RunStatus
    env_steps: int
    seconds: float
    steps_per_second: float
    evaluations: tuple[Evaluation, ...]
    late: Episodes
    final: Evaluation
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Interrupted:
    """A signal from outside ended the run before it was complete; its record says KILLED."""

    run_id: str | None


@dataclass(frozen=True)
class Failed:
    """The run did not end by itself; its record, if there is one, is closed."""

    run_id: str | None
    cause: str
    again: bool
    """Whether the same run might succeed: not where its configuration is the cause."""


@dataclass(frozen=True)
class Died:
    """The process ended without a word (said by the pool, not by the worker)."""

    run_id: str | None
    cause: str


Message = Ready | Retired | Began | Advanced | Evaluated | Ended | Interrupted | Failed | Died
