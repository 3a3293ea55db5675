"""The result of a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dqnkit.config.sections import Config
from dqnkit.tuning.confirmed import Confirmed, overturned
from dqnkit.tuning.standing import Standing


@dataclass(frozen=True)
class TuneResult:
    """What a search came to."""

    study: str
    experiment: str
    env_id: str
    run_id: str | None
    """Of the study's run."""
    standing: Standing
    confirmed: tuple[Confirmed, ...]
    """The best trials on fresh seeds, the best first; none if that was not asked for."""
    winner: Config
    """With the seed of the champion's run, which it repeats."""
    model: str | None
    """The registered model, as `models:/NAME@champion`."""
    fresh_seed: int
    """The first seed that neither search nor confirmation has used."""
    seconds: float
    search_seconds: float
    """Of these, until the last trial ended."""
    hints: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def was_overturned(self) -> bool:
        """Whether confirmation put another trial before the search's best."""
        return overturned(self.standing.best, self.confirmed)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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
