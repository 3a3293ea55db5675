"""How a search goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from dqnkit.errors import ConfigError
from dqnkit.tuning import rdb
from dqnkit.tuning.samplers import PrunerName, SamplerName
from dqnkit.workers.placement import Placement
from dqnkit.workers.seeds import check_number, check_workers

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
    launch: Placement = field(default_factory=Placement)
    """Where workers run."""

    def __post_init__(self) -> None:
        check_number("--trials", self.trials, _MAX_TRIALS)
        check_number("--seeds-per-trial", self.seeds_per_trial, _MAX_SEEDS)
        check_number("--confirm", self.confirm, _MAX_CONFIRM, least=0)
        check_workers(self.workers)
        if self.timeout is not None and not 0 < self.timeout <= 1e9:
            raise ConfigError(f"--timeout {self.timeout}: give seconds, more than 0")

    def arguments(self) -> Iterator[str]:
        """As `dqnkit tune` takes them; what is as ever is left out, and so are passwords."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Placement):
                yield from value.arguments()
            elif value != each.default or each.name == "trials":
                yield f"--{each.name.replace('_', '-')}"
                yield (rdb.shown(rdb.parse(value)) if each.name == "storage" else str(value))
