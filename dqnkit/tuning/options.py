"""Options of a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from dqnkit.errors import ArgumentError
from dqnkit.tuning.database_url import parse_url, without_password
from dqnkit.tuning.samplers import PrunerName, SamplerName
from dqnkit.workers.placement import LOCAL, Placement
from dqnkit.workers.seeds import check_range, check_workers

_MAX_TRIALS = 1_000_000
_MAX_SEEDS = 100
_MAX_CONFIRM = 100
_MAX_TIMEOUT = 1e9


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """Options of a search.

    Raises:
      ArgumentError: If a number is out of its range.
    """

    trials: int = 50
    """Number of trials that are to end, complete or pruned, including those of earlier starts."""
    workers: int | None = None
    """Number of worker processes; None takes one per core, or what a cluster has room for."""
    study: str | None = None
    """Name of the study to continue or make. None continues the last interrupted study of the
    experiment, or makes one."""
    storage: str | None = None
    """URL of a database for the study; None takes that of DQNKIT_STORAGE, or else
    `mlruns/studies`."""
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "hyperband"
    timeout: float | None = None
    """Time in seconds after which no trial is started."""
    seeds_per_trial: int = 1
    """Number of seeds per trial, whose interquartile mean is the value of the trial."""
    confirm: int = 3
    """Number of the best trials that are trained again with fresh seeds."""
    retrain_repeats: bool = False
    """Train a trial whose values an earlier trial had. Otherwise it takes the result of that trial,
    which the same seeds would give again."""
    promote: bool | None = None
    """True makes the winner the champion, and False leaves the champion as it is. None makes the
    winner the champion if its confirmed score is higher, in the same environment."""
    placement: Placement = LOCAL
    """Machine or cluster that the workers run on."""

    def __post_init__(self) -> None:
        check_range("trials", self.trials, 1, _MAX_TRIALS)
        check_range("seeds_per_trial", self.seeds_per_trial, 1, _MAX_SEEDS)
        check_range("confirm", self.confirm, 0, _MAX_CONFIRM)
        if self.promote and self.confirm == 0:
            problem = "without confirmation there is no winner to promote; raise `confirm`"
            raise ArgumentError("promote", self.promote, problem)
        check_workers(self.workers)
        if self.timeout is not None and not 0 < self.timeout <= _MAX_TIMEOUT:
            problem = f"expected a number of seconds above 0, up to {_MAX_TIMEOUT:g}"
            raise ArgumentError("timeout", self.timeout, problem)

    def arguments(self) -> Iterator[tuple[str, str | bool]]:
        """Yield name and value of `trials` and of each argument that differs from its default.

        Passwords are left out.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Placement):
                yield from value.arguments()
            elif each.name == "storage" and value is not None:
                yield each.name, without_password(parse_url(value))
            elif value != each.default or each.name == "trials":
                yield each.name, value if isinstance(value, bool) else str(value)
