"""All that decides how a run goes on, as arrays that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dqnkit.agents.policies import Weights
from dqnkit.errors import CheckpointError
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.loops.base import Arrays

_FORMAT = 1
_OWN = "run/"


@dataclass(frozen=True)
class Clocks:
    """What a run has taken until now, over all its processes."""

    total_seconds: float = 0.0
    training_seconds: float = 0.0
    """In the training loop alone."""
    training_steps: int = 0
    """Environment steps that were taken in these."""
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """A run between two chunks of training."""

    config: str
    """`config.yaml`."""
    iteration: int
    loop: Arrays
    """See `Loop.state`."""
    evaluations: tuple[Evaluation, ...]
    """All until now, in their order."""
    best: int
    """Which of them is the best; -1 before the first."""
    best_weights: Weights
    """Of the policy that it played."""
    clocks: Clocks

    @property
    def is_finite(self) -> bool:
        """Whether the agent has no weight that is NaN or infinite."""
        agent = (value for name, value in self.loop.items() if name.startswith("agent/"))
        return all(bool(np.isfinite(value).all()) for value in agent)

    def arrays(self) -> Arrays:
        """With `of`, the way there and back."""
        own = {
            "format": np.array(_FORMAT),
            "config": np.frombuffer(self.config.encode(), np.uint8),
            "iteration": np.array(self.iteration),
            "best": np.array(self.best),
            "best_weights": self.best_weights,
            "clocks": np.array(list(vars(self.clocks).values()), np.float64),
            **_columns(self.evaluations),
        }
        return {**self.loop, **{_OWN + name: value for name, value in own.items()}}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], source: str) -> Snapshot:
        """What `arrays` gave.

        Args:
          arrays: It.
          source: Where they are from, for messages.

        Raises:
          CheckpointError: They are not that, or of a format that is not known here.
        """
        own = {k.removeprefix(_OWN): v for k, v in arrays.items() if k.startswith(_OWN)}
        try:
            version = int(own["format"])
            if version == _FORMAT:
                return cls(
                    config=own["config"].tobytes().decode(),
                    iteration=int(own["iteration"]),
                    loop={k: v for k, v in arrays.items() if not k.startswith(_OWN)},
                    evaluations=tuple(_evaluations(own)),
                    best=int(own["best"]),
                    best_weights=own["best_weights"],
                    clocks=_clocks(own["clocks"]),
                )
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{source}: is not a checkpoint that a run goes on from: {error}"
            ) from error
        raise CheckpointError(
            f"{source}: has format {version}, and this version of dqnkit reads {_FORMAT}: take the "
            "version that wrote it"
        )


def _columns(evaluations: Sequence[Evaluation]) -> Arrays:
    return {
        "iterations": np.array([each.iteration for each in evaluations], np.int64),
        "env_steps": np.array([each.env_steps for each in evaluations], np.int64),
        "returns": np.array([each.returns for each in evaluations], np.float64),
        "lengths": np.array([each.lengths for each in evaluations], np.int64),
    }


def _evaluations(columns: Mapping[str, np.ndarray]) -> list[Evaluation]:
    names = ("iterations", "env_steps", "returns", "lengths")
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return [
        Evaluation(
            iteration=iteration, env_steps=steps, returns=tuple(returns), lengths=tuple(lengths)
        )
        for iteration, steps, returns, lengths in rows
    ]


def _clocks(values: np.ndarray) -> Clocks:
    total, training, steps, checkpoints, writing = values.tolist()
    return Clocks(total, training, int(steps), int(checkpoints), writing)
