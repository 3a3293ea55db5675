"""The files that a run leaves as artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from dqnkit._system.arrays import save_arrays
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.evaluation import plots
from dqnkit.evaluation.document import EvaluationDocument, FinalEpisodes
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.runs.checkpoints import Checkpoint, CheckpointFolder
from dqnkit.runs.history import EvaluationHistory
from dqnkit.tracking import policy_folder
from dqnkit.tracking.names import Artifact
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import Tracker

if TYPE_CHECKING:  # loads TensorFlow
    from dqnkit.agents.policies import GreedyPolicy


@dataclass(frozen=True)
class RunArtifacts:
    """The files of one run, which are added to its record if the record keeps files."""

    config: Config
    tracker: Tracker

    def add_config(self) -> None:
        """Add `config.yaml`, with which `dqnkit train` repeats the run."""
        with self._folder() as folder:
            if folder is not None:
                text = loading.dump(self.config)
                (folder / Artifact.CONFIG).write_text(text, encoding="utf-8")

    def add_newest_checkpoint(self) -> None:
        """Add the newest checkpoint on this machine, even one of an earlier process.

        Raises:
          OSError: If it cannot be copied.
        """
        if self.tracker.folder is None:
            return
        checkpoints = CheckpointFolder(self.tracker.folder / Artifact.CHECKPOINTS)
        with self._folder() as folder:
            if folder is not None:
                checkpoints.copy_newest(folder)

    def add_results(
        self, history: EvaluationHistory, final: Evaluation | None, checkpoint: Checkpoint | None
    ) -> None:
        """Add evaluations, learning curve, last checkpoint and best weights."""
        with self._folder() as folder:
            if folder is None:
                return
            document = EvaluationDocument(
                evaluations=history.evaluations,
                best=history.best,
                final=FinalEpisodes(
                    episodes=final, iteration=final.iteration, env_steps=final.env_steps
                )
                if final
                else None,
            )
            (folder / Artifact.EVALUATION).write_text(document.to_json(), encoding="utf-8")
            title = f"{self.config.name} ({self.config.env.id}), seed {self.config.training.seed}"
            figure = plots.make_learning_curve_figure(history.evaluations, title)
            plots.save_figure(figure, folder / Artifact.LEARNING_CURVE)
            checkpoints = folder / Artifact.CHECKPOINTS
            checkpoints.mkdir()
            if checkpoint is not None:
                checkpoint.save(checkpoints / Artifact.LAST_CHECKPOINT)
            save_arrays(checkpoints / Artifact.BEST_WEIGHTS, {"online": history.best_weights})

    def add_policy(self, policy: GreedyPolicy, best_weights: np.ndarray) -> None:
        """Add the best policy as an MLflow model, with the configuration that plays it."""
        if not self.tracker.keeps_files:
            return
        with TemporaryDirectory(prefix="dqnkit-") as scratch:
            folder = Path(scratch)
            policy.set_weights(best_weights)
            saved_model = folder / policy_folder.SAVED_MODEL.name
            policy.save(saved_model)
            config = folder / policy_folder.CONFIG.name
            config.write_text(loading.dump(self.config), encoding="utf-8")
            self.tracker.add_policy(PolicyFiles(saved_model, config, policy.spec))

    @contextmanager
    def _folder(self) -> Iterator[Path | None]:
        """Yield a folder whose files become artifacts; None if the record keeps no files."""
        if not self.tracker.keeps_files:
            yield None
            return
        with TemporaryDirectory(prefix="dqnkit-") as scratch:
            yield Path(scratch)
            if any(Path(scratch).iterdir()):
                self.tracker.add_artifacts(Path(scratch))
