"""What training tells while it goes on, and who may listen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a reporter may speak before TensorFlow is loaded
    from dqnkit.config.sections import Config
    from dqnkit.evaluation.episodes import Evaluation
    from dqnkit.loops.base import IntervalMetrics


@dataclass(frozen=True)
class Progress:
    """A chunk of training is done."""

    iteration: int
    env_steps: int
    metrics: tuple[IntervalMetrics, ...]
    """The log intervals that ended in it."""
    steps_per_second: float
    """Environment steps a second, over this chunk."""


class Reporter(Protocol):
    """Hears of a run as it goes."""

    def preparing(self, config: Config, run_name: str) -> None:
        """The run is being compiled."""

    def warned(self, text: str) -> None:
        """Something that the user should know now."""

    def started(self, compile_seconds: float, iteration: int) -> None:
        """Training begins, or goes on from an iteration."""

    def progressed(self, progress: Progress) -> None:
        """A chunk is done."""

    def evaluated(self, evaluation: Evaluation, best: Evaluation) -> None:
        """An evaluation is done; `best` is the best until now."""


class SilentReporter:
    """Says nothing (`Reporter`)."""

    def preparing(self, config: Config, run_name: str) -> None:
        """See `Reporter`."""

    def warned(self, text: str) -> None:
        """See `Reporter`."""

    def started(self, compile_seconds: float, iteration: int) -> None:
        """See `Reporter`."""

    def progressed(self, progress: Progress) -> None:
        """See `Reporter`."""

    def evaluated(self, evaluation: Evaluation, best: Evaluation) -> None:
        """See `Reporter`."""
