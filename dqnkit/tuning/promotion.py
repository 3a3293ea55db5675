"""The rule by which the winner of a search becomes the champion of its experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dqnkit.evaluation.formatting import format_interval
from dqnkit.tracking.editor import RegisteredPolicy

IQM, INTERVAL, ENV = "confirmed_iqm", "confirmed_interval", "env"
"""Tags of a registered version: its confirmed score with its interval, and its environment."""


@dataclass(frozen=True)
class Candidate:
    """A winner that may become the champion."""

    env: str
    value: float
    low: float
    high: float

    @property
    def tags(self) -> dict[str, str]:
        """Tags of its version, by which later candidates are compared with it."""
        interval = f"{self.low:.6g} to {self.high:.6g}"
        return {ENV: self.env, IQM: f"{self.value:.6g}", INTERVAL: interval}

    def may_replace(self, champion: RegisteredPolicy, *, promote: bool | None) -> bool:
        """Return whether it becomes the champion in place of another one.

        Args:
          champion: The champion so far.
          promote: True or False if the user has decided; None asks for a higher score in the same
            environment.
        """
        if promote is not None:
            return promote
        return champion.env == self.env and self.value > _value(champion)

    def explain(self, champion: RegisteredPolicy, *, is_promoted: bool) -> str:
        """Return in a sentence what became of the champion so far, and why."""
        theirs = f"version {champion.version} with {_score(champion)}"
        ours = format_interval(self.value, self.low, self.high)
        if champion.env != self.env:
            reason = f"its environment is {champion.env or 'unknown'}, and not {self.env}"
            comparison = f"{theirs}; {reason}"
        else:
            overlap = " (the intervals overlap)" if self._overlaps(champion) else ""
            comparison = f"{theirs}, against {ours} now{overlap}"
        if is_promoted:
            return f"the new champion replaces {comparison}"
        return f"the champion stays {comparison}; `promote` makes the new winner the champion"

    def _overlaps(self, champion: RegisteredPolicy) -> bool:
        try:
            low, high = map(float, champion.tags.get(INTERVAL, "").split(" to "))
        except ValueError:
            return False
        return low <= self.high and self.low <= high


def _value(champion: RegisteredPolicy) -> float:
    try:
        return float(champion.tags[IQM])
    except (KeyError, ValueError):  # registered by hand
        return -math.inf


def _score(champion: RegisteredPolicy) -> str:
    if IQM not in champion.tags:
        return "an unknown score"
    return f"{champion.tags[IQM]} ({champion.tags.get(INTERVAL, 'no interval')})"
