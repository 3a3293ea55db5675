"""Failures of trials in a row, after which a search ends."""

from __future__ import annotations

from dqnkit.errors import StudyError

_MAX_EXTERNAL = 5
"""Number of external failures in a row that no parameters will avoid."""
_MAX_FAILURES = 20
"""Number of failures of any kind in a row that suggest that nothing in the space can be trained."""


class FailureStreak:
    """Counts the failures since the last trial that counted."""

    def __init__(self) -> None:
        self._failures = 0
        self._external = 0
        self._last = ""

    @property
    def has_reached_limit(self) -> bool:
        """True if the search must end."""
        return self._external >= _MAX_EXTERNAL or self._failures >= _MAX_FAILURES

    def add(self, number: int, cause: str, *, is_external: bool) -> None:
        """Add a failure.

        Args:
          number: Number of the trial.
          cause: Cause of the failure.
          is_external: True if the parameters of the trial are not the cause.
        """
        self._failures += 1
        self._external += is_external
        self._last = f"trial {number}: {cause}"

    def reset(self) -> None:
        """Forget all failures, because a trial counted."""
        self._failures = self._external = 0

    def make_error(self) -> StudyError:
        """Make the error that ends the search."""
        return StudyError(f"{self._failures} trials in a row failed, the last of them {self._last}")
