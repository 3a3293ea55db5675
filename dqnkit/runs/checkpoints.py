"""When a run writes checkpoints, and what they cost it."""

from __future__ import annotations

import time
from pathlib import Path

from dqnkit._system.arrays import CheckpointFolder, Written
from dqnkit.loops.base import Arrays
from dqnkit.tracking.outbox import CHECKPOINTS, LAST_CHECKPOINT

_LEAST_SECONDS = 10.0
_SHARE = 0.01
"""Of a run's time that checkpoints may take where no interval is given."""


class Checkpoints:
    """Of one run."""

    def __init__(self, folder: Path | None, interval: int | None) -> None:
        """Writes nothing yet.

        Args:
          folder: The run's own, which outlives its process; None keeps nothing.
          interval: Iterations between two; None goes by the time that they take.
        """
        self._folder = CheckpointFolder(folder / CHECKPOINTS) if folder is not None else None
        self._interval = interval
        self._next = time.perf_counter() + _LEAST_SECONDS
        self.last: Written | None = None
        """The newest."""
        self.last_iteration = -1
        """Of the newest."""
        self.count = 0
        self.seconds = 0.0
        """That writing them took."""
        self.trouble: str | None = None
        """Why the last try to write one failed."""

    @property
    def megabytes(self) -> float:
        """Of the newest; 0 if there is none."""
        return self.last.bytes / 1e6 if self.last is not None else 0.0

    def stop_after(self, iteration: int, total: int) -> int:
        """The first iteration behind another at which a chunk must end for a checkpoint."""
        if self._interval is None or self._folder is None:
            return total
        return (iteration // self._interval + 1) * self._interval

    def is_due(self, iteration: int) -> bool:
        """Whether one is to be written now."""
        if self._folder is None or iteration == self.last_iteration:
            return False
        if self._interval is not None:
            return iteration % self._interval == 0
        return time.perf_counter() >= self._next

    def write(self, iteration: int, arrays: Arrays) -> None:
        """Writes one. A disk that is full costs the checkpoint, never the run."""
        if self._folder is None:
            return
        try:
            self.last = self._folder.add(iteration, arrays)
        except OSError as error:
            self.fail(iteration, error)
            return
        self.trouble = None
        self.last_iteration = iteration
        self.count += 1
        self.seconds += self.last.seconds
        self._next = time.perf_counter() + max(_LEAST_SECONDS, self.last.seconds / _SHARE)

    def fail(self, iteration: int, error: OSError) -> None:
        """Takes note that one cannot be written; the next is tried later."""
        self.trouble = (
            f"the checkpoint of iteration {iteration:,} cannot be written: "
            f"{error.strerror or error}; {self._what_is_left()}"
        )
        self._next = time.perf_counter() + _LEAST_SECONDS

    def _what_is_left(self) -> str:
        if self.last_iteration < 0:
            return "the run has none yet"
        return f"that of iteration {self.last_iteration:,} is kept"


def copy_newest(run_folder: Path | None, artifacts: Path) -> bool:
    """Puts a run's newest checkpoint under its name as an artifact; False if it has none.

    It may be of an earlier process: a run that failed as it was resumed has no other.
    """
    if run_folder is None:
        return False
    kept = CheckpointFolder(run_folder / CHECKPOINTS)
    return kept.copy_newest(artifacts / CHECKPOINTS / LAST_CHECKPOINT)
