"""Events of everything that takes time, such as training, and the listeners that receive them.

A listener is any callable that takes an `Event`:

    def listener(event: Event) -> None:
        match event:
            case Progress():
                bar.update(event.iteration)
            case Warned():
                print(event.text)

    dqnkit.train(config, listener=listener)

Workers send the same events to the process that started them. This module imports nothing that
takes time to load, so that a display can match events before TensorFlow is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # these modules load NumPy and more
    from dqnkit.config.sections import Config
    from dqnkit.evaluation.episodes import Episodes, Evaluation
    from dqnkit.loops.base import IntervalMetrics
    from dqnkit.runs.result import TrainResult
    from dqnkit.tuning.standing import Standing, TrialScore
    from dqnkit.workers.seed_group import SeedResult


class RunStatus(StrEnum):
    """Final status of a run, in MLflow's terms."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    """Interrupted, with everything up to then recorded."""


@dataclass(frozen=True)
class Event:
    """Base class of all events."""


Listener = Callable[[Event], None]
"""Receives events in the order in which they happen, in the thread that trains."""


def ignore(event: Event) -> None:
    """Discard an event: the default listener."""


@dataclass(frozen=True)
class Warned(Event):
    """Something happened that the user should know at once.

    What a run or a search finds out at its end stands in the `problems` of its result alone.
    """

    text: str


# -- One run


@dataclass(frozen=True)
class RunPreparing(Event):
    """A run is about to be built and compiled."""

    config: Config
    """The resolved configuration."""
    run_name: str


@dataclass(frozen=True)
class RunStarted(Event):
    """The training loop is compiled and the run's record is open."""

    run_id: str | None
    """MLflow's id of the run; None if it is not recorded, or not yet."""
    compile_seconds: float
    iteration: int
    """Iteration at which training starts: 0, or that of the checkpoint of a resumed run."""


@dataclass(frozen=True)
class Progress(Event):
    """A chunk of training is done."""

    iteration: int
    env_steps: int
    metrics: tuple[IntervalMetrics, ...]
    """Metrics of the log intervals that ended in the chunk."""
    steps_per_second: float
    """Environment steps per second, over the chunk."""


@dataclass(frozen=True)
class Collecting(Event):
    """Initial steps are being taken; emitted a few times per second."""

    env_steps: int
    """Number of environment steps up to now."""
    total: int


@dataclass(frozen=True)
class Evaluating(Event):
    """Evaluation episodes are being played outside the graph; emitted a few times per second."""

    finished: int
    """Number of finished episodes."""
    total: int
    steps: int
    """Number of steps of the longest unfinished episode."""


@dataclass(frozen=True)
class Evaluated(Event):
    """An evaluation is done."""

    evaluation: Evaluation
    best: Evaluation
    """The best evaluation of the run so far."""
    late: Episodes
    """Episodes of the latest evaluations together (`late_episodes`)."""


@dataclass(frozen=True)
class RunEnded(Event):
    """A run is complete or interrupted, and its record is closed.

    A run that an exception ends emits nothing more.
    """

    result: TrainResult


# -- Work on recorded runs


@dataclass(frozen=True)
class EpisodesPlayed(Event):
    """Episodes of an evaluation or a video are played."""

    policies: tuple[str, ...]
    """Policies that play: `trained` or `random` in an evaluation, or both in a video."""
    played: int
    """Number of episodes up to now."""
    total: int
    """Number of episodes of each policy."""


@dataclass(frozen=True)
class RunsRead(Event):
    """Runs of a comparison are read from the store."""

    read: int
    """Number of runs up to now."""
    total: int


# -- Several seeds of one configuration


@dataclass(frozen=True)
class SeedsStarted(Event):
    """Workers are being started to train several seeds."""

    config: Config
    run_name: str
    """Name of the parent run."""
    seeds: Sequence[int]


@dataclass(frozen=True)
class SeedEnded(Event):
    """One seed is trained."""

    result: SeedResult


# -- A search


@dataclass(frozen=True)
class SearchStarted(Event):
    """Workers are being started for a search."""

    study: str
    experiment: str
    workers: int
    standing: Standing


@dataclass(frozen=True)
class TrialStarted(Event):
    """A run of a trial is handed to a worker."""

    run_name: str
    number: int
    values: Mapping[str, Any]
    """The trial's values by configuration key."""


@dataclass(frozen=True)
class TrialEnded(Event):
    """A trial is complete, pruned or failed."""

    number: int
    state: str
    """`complete`, `pruned` or `failed`."""
    value: float | None
    """Value of a complete trial, or the last value that a pruned trial reported."""
    standing: Standing


@dataclass(frozen=True)
class ConfirmationStarted(Event):
    """The best trials are trained again on fresh seeds."""

    candidates: Sequence[TrialScore]
    seeds: Sequence[int]
    runs_left: int
    """Number of runs that are still to be trained."""


# -- Workers


@dataclass(frozen=True)
class RunAssigned(Event):
    """A worker is given a run to train."""

    worker: int
    config: Config
    run_name: str


@dataclass(frozen=True)
class WorkerEvent(Event):
    """A worker sent an event."""

    worker: int
    event: Event


@dataclass(frozen=True)
class WorkerReady(Event):
    """The worker has loaded TensorFlow and is free for a run."""


@dataclass(frozen=True)
class WorkerRetired(Event):
    """The worker's process exits because it holds too much memory; another replaces it."""


@dataclass(frozen=True)
class WorkerDied(Event):
    """The worker's process ended unexpectedly; another replaces it."""

    run_id: str | None
    """Run that it was training, if that run is recorded."""
    cause: str


@dataclass(frozen=True)
class RunFailed(Event):
    """A worker's run raised an exception; its record, if there is one, is closed."""

    run_id: str | None
    cause: str
    retryable: bool
    """True if the same run may succeed another time: False if its configuration is the cause."""
    is_interrupted: bool = False
    """True if the run was stopped before its first evaluation, on request."""
