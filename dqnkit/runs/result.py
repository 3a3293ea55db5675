"""The result of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.events import RunStatus


@dataclass(frozen=True)
class TrainResult:
    """The result of a run, over all processes that have trained it."""

    experiment: str
    run_name: str
    run_id: str | None
    """MLflow's id of the run; None if it is not recorded."""
    status: RunStatus
    iterations: int
    env_steps: int
    seconds: float
    """Seconds from the call to the last episode, compilation and evaluation included."""
    compile_seconds: float
    training_seconds: float
    """Seconds in the training loop alone."""
    steps_per_second: float
    """Environment steps per second of the training loop alone."""
    last: Evaluation
    best: Evaluation
    final: Evaluation | None
    """Fresh episodes of the best policy; no choice depended on them. None if the run was
    interrupted before they were complete."""
    late: Episodes
    """Episodes of the last evaluations together (`late_episodes`)."""
    evaluations: tuple[Evaluation, ...]
    """All evaluations, in order."""
    checkpoints: int
    """Number of checkpoints written while training."""
    checkpoint_seconds: float
    """Seconds spent on writing them."""
    checkpoint_megabytes: float
    """Size of the last one."""
    hints: dict[str, str] = field(default_factory=dict)
    """Commands and addresses that show the record, by label."""
    problems: list[str] = field(default_factory=list)
    """Descriptions of what could not be recorded."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document: the fields, with statistics in place of episodes."""
        names = [each.name for each in fields(self) if each.name != "evaluations"]
        document = {name: getattr(self, name) for name in names}
        return document | {
            "last": {"env_steps": self.last.env_steps, **asdict(self.last.summary)},
            "best": {"env_steps": self.best.env_steps, **asdict(self.best.summary)},
            "final": self.final.statistics() if self.final else None,
            "late": self.late.statistics(),
        }
