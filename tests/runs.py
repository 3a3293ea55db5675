"""Recorded runs without the training: what readers of a store meet."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from dqnkit.agents.policies import GreedyPolicy, Weights
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.evaluation.episodes import Episodes
from dqnkit.events import RunStatus
from dqnkit.tracking import location, policy_folder
from dqnkit.tracking.client import connect
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import KIND_TAG, RunRecord

LEAN = np.float32([-0.1, -0.3, -1.0, -0.4, 0.1, 0.3, 1.0, 0.4, 0.0, 0.0])
"""Weights of a linear network that holds CartPole's pole for ever."""
CARTPOLE = loading.default_config("cartpole", ["network.fc_layer_params=[]"])


def save_policy(config: Config, weights: Weights | None, folder: Path) -> PolicyFiles:
    """A policy's files; initial weights where none are given."""
    config, spec = resolve(config)
    policy = GreedyPolicy(spec, config)
    if weights is not None:
        policy.set_weights(weights)
    policy.save(folder / policy_folder.SAVED_MODEL.name)
    path = folder / policy_folder.CONFIG.name
    path.write_text(loading.dump(config), encoding="utf-8")
    return PolicyFiles(folder / policy_folder.SAVED_MODEL.name, path, spec)


def make_store() -> None:
    """Makes the embedded store of the working directory, quickly."""
    place = location.locate_store().make()
    if place.is_empty:
        shutil.copyfile(_empty_database(), place.database or "")


@cache
def _empty_database() -> Path:
    """A store that MLflow has made, which takes it most of a second each time."""
    folder = Path(tempfile.mkdtemp(prefix="dqnkit-tests-"))
    atexit.register(shutil.rmtree, folder)
    connect(location.locate_store(str(folder)).make())
    return folder / "mlflow.db"


def record(
    config: Config = CARTPOLE,
    *,
    name: str = "a-run",
    weights: Weights | None = None,
    with_policy: bool = False,
    finals: Sequence[float] = (),
    curve: Mapping[int, Sequence[float]] = {},
    status: RunStatus | None = RunStatus.FINISHED,
    tags: Mapping[str, str] = {},
    tracking_uri: str | None = None,
) -> str:
    """Records a run; its id. A status of None leaves it running."""
    place = location.locate_store(tracking_uri).make()
    if place.is_empty:
        shutil.copyfile(_empty_database(), place.database or "")
    tracker = MlflowTracker(place)
    params = resolve(config)[0].flat()
    kind = {KIND_TAG: "training"}
    tracker.start(RunRecord(config.name, name, params, {**kind, **tags}, "**About it.**"))
    with tempfile.TemporaryDirectory() as scratch:
        if finals:
            final = Episodes(returns=tuple(finals), lengths=(10,) * len(finals))
            values = {"best/return_mean": max(finals), "time/steps_per_second": 1000.0}
            tracker.log(final.metrics("final") | values, 5_000)
        for step, returns in curve.items():
            tracker.log({"eval/return_mean": float(np.mean(returns))}, step)
        if finals and curve:
            document = {
                "evaluations": [
                    {"env_steps": step, "returns": list(returns)} for step, returns in curve.items()
                ],
                "final": {"iteration": 9, "env_steps": 5_000, "returns": list(finals)},
            }
            files = Path(scratch) / "files"
            files.mkdir()
            (files / "evaluation.json").write_text(json.dumps(document), encoding="utf-8")
            tracker.artifacts(files)
        if with_policy:
            tracker.policy(save_policy(config, weights, Path(scratch)))
    if status is not None:
        assert tracker.finish(status) == []
    assert tracker.run_id is not None
    return tracker.run_id
