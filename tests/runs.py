"""Runs recorded without training, for tests of code that reads a store."""

from __future__ import annotations

import atexit
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
from dqnkit.evaluation.document import EvaluationDocument, FinalEpisodes
from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.events import RunStatus
from dqnkit.runs.metrics import episode_metrics
from dqnkit.tracking import policy_folder
from dqnkit.tracking.client import connect
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.names import FINAL, Artifact, Metric, RunKind, Tag
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import RunHeader

LEAN = np.float32([-0.1, -0.3, -1.0, -0.4, 0.1, 0.3, 1.0, 0.4, 0.0, 0.0])
"""Weights of a linear network that balances CartPole's pole without end."""
CARTPOLE = loading.default_config("cartpole", ["network.fc_layer_params=[]"])


def save_policy(config: Config, weights: Weights | None, folder: Path) -> PolicyFiles:
    """Save a policy with given or initial weights; return its files."""
    config, spec = resolve(config)
    policy = GreedyPolicy(spec, config)
    if weights is not None:
        policy.set_weights(weights)
    policy.save(folder / policy_folder.SAVED_MODEL.name)
    path = folder / policy_folder.CONFIG.name
    path.write_text(loading.dump(config), encoding="utf-8")
    return PolicyFiles(folder / policy_folder.SAVED_MODEL.name, path, spec)


def make_store(tracking_uri: str = AUTO) -> None:
    """Make an embedded store quickly, by default that of the working directory."""
    place = locate_store(tracking_uri).make()
    if place.is_empty:
        shutil.copyfile(_empty_database(), place.database or "")


@cache
def _empty_database() -> Path:
    """Return an empty store's database, which MLflow needs most of a second to make."""
    folder = Path(tempfile.mkdtemp(prefix="dqnkit-tests-"))
    atexit.register(shutil.rmtree, folder)
    connect(locate_store(str(folder)).make())
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
    tracking_uri: str = AUTO,
) -> str:
    """Record a run and return its id; a status of None leaves it running."""
    make_store(tracking_uri)
    tracker = MlflowTracker(locate_store(tracking_uri))
    params = resolve(config)[0].flat()
    kind = {Tag.KIND: RunKind.TRAINING}
    tracker.start(RunHeader(config.name, name, params, {**kind, **tags}, "**About it.**"))
    with tempfile.TemporaryDirectory() as scratch:
        if finals:
            final = _episodes(finals)
            values = {Metric.BEST_MEAN: max(finals), Metric.STEPS_PER_SECOND: 1000.0}
            tracker.log(episode_metrics(FINAL, final) | values, 5_000)
        for step, returns in curve.items():
            tracker.log({Metric.EVAL_MEAN: float(np.mean(returns))}, step)
        if finals and curve:
            document = EvaluationDocument(
                evaluations=tuple(
                    Evaluation(iteration=0, env_steps=step, **vars(_episodes(returns)))
                    for step, returns in curve.items()
                ),
                final=FinalEpisodes(episodes=_episodes(finals), iteration=9, env_steps=5_000),
            )
            files = Path(scratch) / "files"
            files.mkdir()
            (files / Artifact.EVALUATION).write_text(document.to_json(), encoding="utf-8")
            tracker.add_artifacts(files)
        if with_policy:
            tracker.add_policy(save_policy(config, weights, Path(scratch)))
    if status is not None:
        assert tracker.finish(status) == []
    assert tracker.run_id is not None
    return tracker.run_id


def _episodes(returns: Sequence[float]) -> Episodes:
    return Episodes(returns=tuple(returns), lengths=(10,) * len(returns))
