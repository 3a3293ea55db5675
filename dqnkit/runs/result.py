"""What a run came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.events import RunStatus


@dataclass(frozen=True)
class TrainResult:
    """What a run came to, over all its processes where it was resumed."""

    experiment: str
    run_name: str
    run_id: str | None
    status: RunStatus
    iterations: int
    env_steps: int
    seconds: float
    """From the call to the last episode: compilation and training."""
    compile_seconds: float
    training_seconds: float
    """In the training loop alone."""
    steps_per_second: float
    """Environment steps a second of the training loop alone."""
    last: Evaluation
    best: Evaluation
    final: Evaluation
    """Of the best policy, on fresh episodes."""
    late: Episodes
    """Those of the last evaluations together (`LATE_EVALUATIONS`)."""
    evaluations: tuple[Evaluation, ...]
    """All, in their order."""
    checkpoints: int
    """Written while training."""
    checkpoint_seconds: float
    """That they took."""
    checkpoint_megabytes: float
    """Of the last one."""
    hints: dict[str, str] = field(default_factory=dict)
    """Where to look at the record."""
    problems: list[str] = field(default_factory=list)
    """What could not be recorded."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with statistics in place of episodes."""
        names = [each.name for each in fields(self) if each.name != "evaluations"]
        document = {name: getattr(self, name) for name in names}
        return document | {
            "last": {"env_steps": self.last.env_steps, **asdict(self.last.summary)},
            "best": {"env_steps": self.best.env_steps, **asdict(self.best.summary)},
            "final": self.final.statistics(),
            "late": self.late.statistics(),
        }
