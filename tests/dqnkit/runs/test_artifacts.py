from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from dqnkit._system.arrays import load_arrays
from dqnkit.agents.policies import GreedyPolicy
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.evaluation.document import EvaluationDocument
from dqnkit.runs.artifacts import RunArtifacts
from dqnkit.runs.checkpoints import Checkpoint, CheckpointFolder
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import Tracker
from tests.dqnkit.runs.results import BEST, RESULT
from tests.dqnkit.runs.test_checkpoints import CHECKPOINT

Small = Callable[..., Config]


class FileTracker(Tracker):
    """A tracker that keeps the files it is given."""

    keeps_files = True

    def __init__(self, folder: Path | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.policies: list[PolicyFiles] = []
        self._folder = folder

    @property
    @override
    def folder(self) -> Path | None:
        return self._folder

    @override
    def add_artifacts(self, folder: Path) -> None:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        assert paths
        self.files |= {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    @override
    def add_policy(self, policy: PolicyFiles) -> None:
        assert (policy.saved_model / "saved_model.pb").is_file()
        assert policy.config.is_file()
        self.policies.append(policy)


def _history() -> Any:
    return SimpleNamespace(
        evaluations=RESULT.evaluations, best=BEST, best_weights=np.float32([1.0, 2.0])
    )


def _written(content: bytes) -> Path:
    path = Path("written.npz")
    path.write_bytes(content)
    return path


def test_the_configuration_is_an_artifact(small: Small) -> None:
    config = resolve(small("training.seed=3"))[0]
    tracker = FileTracker()
    RunArtifacts(config, tracker).add_config()
    assert tracker.files.keys() == {"config.yaml"}
    Path("config.yaml").write_bytes(tracker.files["config.yaml"])
    assert loading.load("config.yaml") == config


def test_results_are_artifacts(small: Small) -> None:
    tracker = FileTracker()
    RunArtifacts(small(), tracker).add_results(_history(), RESULT.final, CHECKPOINT)
    assert tracker.files.keys() == {
        "evaluation.json",
        "learning_curve.png",
        "checkpoints/last.npz",
        "checkpoints/best.npz",
    }
    document = EvaluationDocument.from_json(tracker.files["evaluation.json"].decode())
    assert document.evaluations == RESULT.evaluations
    assert document.best == BEST
    assert document.final is not None
    assert document.final.episodes.returns == RESULT.final.returns
    assert (document.final.iteration, document.final.env_steps) == (10, 30)
    assert document.final.seed is None
    last = Checkpoint.load(_written(tracker.files["checkpoints/last.npz"]))
    assert last.iteration == CHECKPOINT.iteration
    best = load_arrays(_written(tracker.files["checkpoints/best.npz"]))
    np.testing.assert_array_equal(best["online"], [1.0, 2.0])


def test_results_without_a_checkpoint_are_artifacts_too(small: Small) -> None:
    """A replay server on another host may be unable to write its part of a checkpoint."""
    tracker = FileTracker()
    RunArtifacts(small(), tracker).add_results(_history(), RESULT.final, None)
    assert "checkpoints/last.npz" not in tracker.files
    assert "checkpoints/best.npz" in tracker.files


def test_the_newest_checkpoint_of_this_machine_is_an_artifact(small: Small) -> None:
    tracker = FileTracker(Path("run"))
    artifacts = RunArtifacts(small(), tracker)
    artifacts.add_newest_checkpoint()  # there is none, and nothing is added
    folder = CheckpointFolder(Path("run/checkpoints"))
    for iteration in (10, 20):
        folder.add(replace(CHECKPOINT, iteration=iteration))
    artifacts.add_newest_checkpoint()
    assert tracker.files.keys() == {"checkpoints/last.npz"}
    assert Checkpoint.load(_written(tracker.files["checkpoints/last.npz"])).iteration == 20


def test_a_disk_without_space_for_a_copy_is_an_error(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    CheckpointFolder(Path("run/checkpoints")).add(CHECKPOINT)
    monkeypatch.setattr("shutil.copyfile", full)
    tracker = FileTracker(Path("run"))
    with pytest.raises(OSError, match="No space left"):
        RunArtifacts(small(), tracker).add_newest_checkpoint()
    assert tracker.files == {}


def test_the_best_policy_is_saved_with_its_configuration(small: Small) -> None:
    config, spec = resolve(small())
    policy = GreedyPolicy(spec, config)
    weights = np.arange(policy._network.parameters.shape[0], dtype=np.float32)
    tracker = FileTracker()
    RunArtifacts(config, tracker).add_policy(policy, weights)
    (files,) = tracker.policies
    assert files.spec == spec
    assert not files.saved_model.exists()  # the tracker has copied it
    np.testing.assert_array_equal(policy._network.parameters.numpy(), weights)


def test_a_record_without_files_gets_none(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("nothing is to be written")

    monkeypatch.setattr("dqnkit.evaluation.plots.make_learning_curve_figure", fail)
    monkeypatch.setattr(GreedyPolicy, "save", fail)
    config, spec = resolve(small())
    artifacts = RunArtifacts(config, Tracker())
    artifacts.add_config()
    artifacts.add_newest_checkpoint()
    artifacts.add_results(_history(), RESULT.final, CHECKPOINT)
    artifacts.add_policy(GreedyPolicy(spec, config), np.zeros(1, np.float32))
