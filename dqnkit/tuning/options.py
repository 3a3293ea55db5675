"""How a search goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from dqnkit.errors import ArgumentError
from dqnkit.tuning import rdb
from dqnkit.tuning.samplers import PrunerName, SamplerName
from dqnkit.workers.placement import LOCAL, Placement
from dqnkit.workers.seeds import check_range, check_workers

_MAX_TRIALS = 1_000_000
_MAX_SEEDS = 100
_MAX_CONFIRM = 100


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How a search goes on.

    Raises:
      ConfigError: A number is out of its range.
    """

    trials: int = 50
    """Trials that are to end, complete or pruned, those of earlier starts included."""
    workers: int | None = None
    """Processes; None takes as many as there are cores, or as a cluster has room for."""
    study: str | None = None
    """Name of the study; None goes on with the last of this experiment that was interrupted, or
    begins one."""
    storage: str | None = None
    """URL of a database; None keeps the study under `mlruns/studies`."""
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "hyperband"
    timeout: float | None = None
    """Seconds after which no further trial is begun."""
    seeds_per_trial: int = 1
    """Trainings a trial; its value is the interquartile mean over them."""
    confirm: int = 3
    """Best trials that are trained again on fresh seeds; 0 leaves that out."""
    placement: Placement = LOCAL
    """Where workers run."""

    def __post_init__(self) -> None:
        check_range("trials", self.trials, 1, _MAX_TRIALS)
        check_range("seeds_per_trial", self.seeds_per_trial, 1, _MAX_SEEDS)
        check_range("confirm", self.confirm, 0, _MAX_CONFIRM)
        check_workers(self.workers)
        if self.timeout is not None and not 0 < self.timeout <= 1e9:
            raise ArgumentError("timeout", self.timeout, "expected a number of seconds above 0")

    def arguments(self) -> Iterator[tuple[str, str]]:
        """Yield name and text of `trials` and of each argument that differs from its default.

        Passwords are left out.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Placement):
                yield from value.arguments()
            elif each.name == "storage" and value is not None:
                yield each.name, rdb.shown(rdb.parse(value))
            elif value != each.default or each.name == "trials":
                yield each.name, str(value)
