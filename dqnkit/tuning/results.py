"""The result of a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dqnkit.config.sections import Config
from dqnkit.tuning.confirmed_trial import ConfirmedTrial, is_overturned
from dqnkit.tuning.standing import Standing


@dataclass(frozen=True)
class TuneResult:
    """The result of a search."""

    study: str
    """Name of the study."""
    experiment: str
    env_id: str
    run_id: str | None
    """MLflow's id of the study's run; None if it is not recorded."""
    standing: Standing
    confirmed: tuple[ConfirmedTrial, ...]
    """Confirmed trials, best first; empty if no confirmation was requested."""
    winner: Config
    """Configuration of the winner, with the seed of the champion's run, which it repeats."""
    model: str | None
    """URI of the registered model: `models:/NAME@champion` if it is the champion, else that of its
    version; None if nothing was registered."""
    fresh_seed: int
    """First seed that neither the search nor its confirmation used."""
    seconds: float
    """Seconds of this call."""
    search_seconds: float
    """Seconds until the last trial ended."""
    hints: dict[str, str] = field(default_factory=dict)
    """Commands and addresses that show the record, and commands for what to do next."""
    problems: list[str] = field(default_factory=list)
    """Descriptions of failed trials, and of what could not be recorded."""

    @property
    def was_overturned(self) -> bool:
        """True if confirmation ranks another trial above the best of the search."""
        return is_overturned(self.standing.best, self.confirmed)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        standing = self.standing
        return {
            "study": self.study,
            "experiment": self.experiment,
            "env": self.env_id,
            "run_id": self.run_id,
            "trials": {
                "total": standing.total,
                "complete": standing.complete,
                "pruned": standing.pruned,
                "failed": standing.failed,
            },
            "best": asdict(standing.best) if standing.best else None,
            "confirmed": [each.as_dict() for each in self.confirmed],
            "overturned": self.was_overturned,
            "winner": self.winner.model_dump(mode="json"),
            "model": self.model,
            "fresh_seed": self.fresh_seed,
            "seconds": self.seconds,
            "search_seconds": self.search_seconds,
            "hints": self.hints,
            "problems": self.problems,
        }
