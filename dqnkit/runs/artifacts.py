"""The files that a run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dqnkit._system import arrays
from dqnkit.agents.policies import GreedyPolicy, Weights
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.evaluation import plots
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.runs.snapshot import Snapshot
from dqnkit.tracking import policy_folder
from dqnkit.tracking.outbox import CHECKPOINTS, LAST_CHECKPOINT
from dqnkit.tracking.policy_folder import PolicyFiles


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training has led to."""

    config: Config
    evaluations: Sequence[Evaluation]
    best: Evaluation
    best_weights: Weights
    """Of the policy that it played."""
    final: Evaluation
    """Of that policy, on fresh episodes."""


def write(outcome: Outcome, snapshot: Snapshot | None, folder: Path) -> None:
    """Evaluations, learning curve and checkpoints, below a folder that is made."""
    (folder / CHECKPOINTS).mkdir(parents=True)
    document = {
        "evaluations": [evaluation.as_dict() for evaluation in outcome.evaluations],
        "best": outcome.best.as_dict(),
        "final": outcome.final.as_dict() | {"iqm_interval": list(outcome.final.interval)},
    }
    (folder / "evaluation.json").write_text(json.dumps(document), encoding="utf-8")
    config = outcome.config
    title = f"{config.name} ({config.env.id}), seed {config.training.seed}"
    plots.learning_curve(outcome.evaluations, title, folder / "learning_curve.png")
    if snapshot is not None:
        arrays.save_arrays(folder / CHECKPOINTS / LAST_CHECKPOINT, snapshot.arrays())
    arrays.save_arrays(folder / CHECKPOINTS / "best.npz", {"online": outcome.best_weights})


def write_policy(outcome: Outcome, policy: GreedyPolicy, folder: Path) -> PolicyFiles:
    """The best policy as TensorFlow saves it, and the configuration that plays it."""
    policy.set_weights(outcome.best_weights)
    saved_model = folder / policy_folder.SAVED_MODEL.name
    policy.save(saved_model)
    config = folder / policy_folder.CONFIG.name
    config.write_text(loading.dump(outcome.config), encoding="utf-8")
    return PolicyFiles(saved_model, config, policy.spec)
