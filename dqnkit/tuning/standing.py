"""What a search tells while it goes on, and who may listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dqnkit.tuning.space import Values
from dqnkit.workers.dispatcher import WorkReporter
from dqnkit.workers.messages import Message, Task


@dataclass(frozen=True)
class Standing:
    """How a search stands."""

    total: int
    """Trials that are to end."""
    complete: int
    pruned: int
    failed: int
    best: TrialScore | None

    @property
    def ended(self) -> int:
        """Trials that count."""
        return self.complete + self.pruned


@dataclass(frozen=True)
class TrialScore:
    """A trial that was not pruned."""

    number: int
    value: float
    values: Values
    """What it changed in the experiment, by key."""


class TuneReporter(WorkReporter, Protocol):
    """Hears of a search as it goes."""

    def began(self, study: str, experiment: str, workers: int, standing: Standing) -> None:
        """Workers are being started."""

    def chose(self, run_name: str, number: int, values: Values) -> None:
        """The run of this name belongs to a trial with these values."""

    def ended(self, number: int, state: str, value: float | None, standing: Standing) -> None:
        """A trial is complete, pruned or failed; a pruned one has the value that it had then."""

    def told(self, text: str) -> None:
        """Something that a person should know, such as a trial that failed."""

    def confirming(self, candidates: Sequence[TrialScore], seeds: Sequence[int], left: int) -> None:
        """The best trials are trained again; so many runs of that are left."""


class SilentTuneReporter:
    """Says nothing (`TuneReporter`)."""

    def began(self, study: str, experiment: str, workers: int, standing: Standing) -> None:
        """See `TuneReporter`."""

    def given(self, worker: int, task: Task) -> None:
        """See `WorkReporter`."""

    def heard(self, worker: int, message: Message) -> None:
        """See `WorkReporter`."""

    def chose(self, run_name: str, number: int, values: Values) -> None:
        """See `TuneReporter`."""

    def ended(self, number: int, state: str, value: float | None, standing: Standing) -> None:
        """See `TuneReporter`."""

    def told(self, text: str) -> None:
        """See `TuneReporter`."""

    def confirming(self, candidates: Sequence[TrialScore], seeds: Sequence[int], left: int) -> None:
        """See `TuneReporter`."""
