from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.events import RunStatus
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import RunHeader, Tracker

Small = Callable[..., Config]


def test_a_tracker_without_a_store_does_nothing(small: Small) -> None:
    tracker = Tracker()
    assert tracker.run_id is tracker.folder is None
    assert not tracker.keeps_files
    assert tracker.start(RunHeader("an-experiment", "a-run", {})) == []
    tracker.log({"m": 1.0}, 1)
    tracker.add_artifacts(Path("nowhere"))
    tracker.add_policy(PolicyFiles(Path("a"), Path("b"), resolve(small())[1]))
    tracker.describe("**text**")
    tracker.sync_to_disk()
    tracker.take_over()
    assert tracker.command_line("train", resume="x") is None
    assert tracker.hints() == {}
    assert tracker.hand_over(None) == tracker.finish(RunStatus.KILLED, patiently=False) == []
    assert not list(Path.cwd().iterdir())


def test_a_store_implements_every_method() -> None:
    names = {name for name in vars(Tracker) if not name.startswith("_")}
    assert names <= vars(MlflowTracker).keys()
    for name in names - {"keeps_files", "run_id", "folder"}:
        ours, theirs = (
            inspect.signature(getattr(each, name)).parameters for each in (MlflowTracker, Tracker)
        )
        assert [(p.name, p.kind) for p in ours.values()] == [
            (p.name, p.kind) for p in theirs.values()
        ]
