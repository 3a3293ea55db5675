"""Seeds that reach the environments: evaluations and videos use none of those of training."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import pytest

from dqnkit.analysis.policy_evaluation import evaluate
from dqnkit.analysis.video import render
from dqnkit.config import loading, random_streams
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.runs.trainer import train
from tests.environments import DrawnCorridor


class Seeded(DrawnCorridor):
    """Records the seeds of its resets."""

    given: ClassVar[list[int]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.given.append(seed)
        return super().reset(seed=seed, options=options)


gymnasium.register("Seeded-v0", entry_point=Seeded, max_episode_steps=1_000)


@pytest.fixture(autouse=True)
def _no_seeds() -> None:
    Seeded.given.clear()


def _taken() -> list[int]:
    taken = Seeded.given.copy()
    Seeded.given.clear()
    return taken


def _trained() -> tuple[Config, list[int]]:
    """Record a run; return its configuration and the seeds of its environments."""
    config = loading.default_config(
        "seeded",
        [
            "env.id=Seeded-v0",
            "env.num_envs=3",
            "network.fc_layer_params=[]",
            "training.num_iterations=20",
            "training.initial_collect_steps=5",
            "training.batch_size=4",
            "evaluation.final_episodes=20",
        ],
    )
    config, _ = resolve(config)
    train(config)
    return config, _taken()


def test_no_seed_is_used_twice() -> None:
    config, training = _trained()
    assert set(random_streams.training_environment_seeds(0, config.env.num_envs)) <= set(training)
    evaluate("latest", 40)
    evaluation = _taken()
    render("latest", episodes=10)
    video = _taken()
    everything = [*training, *evaluation, *video]
    assert (len(evaluation), len(video)) == (48, 10)  # three batches of sixteen
    assert len(set(everything)) == len(everything)


def test_seeds_of_training_are_left_out_if_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _trained()
    evaluate("latest", 16)
    render("latest", episodes=2)
    drawn = _taken()
    forbidden = [drawn[3], drawn[-1]]
    for user in ("dqnkit.evaluation.factory", "dqnkit.analysis.video"):
        monkeypatch.setattr(f"{user}.training_environment_seeds", lambda *_: forbidden)
    evaluate("latest", 16)
    assert len(_taken()) == 16
    evaluate("latest", 16)
    render("latest", episodes=2)
    again = _taken()
    assert not set(forbidden) & set(again)
    assert len(again) == 18


def test_policies_and_random_actions_start_from_the_same_states() -> None:
    _trained()
    evaluate("latest", 20, baseline="random")
    given = _taken()
    assert given[:32] == given[32:]
    evaluate("latest", 5)  # a smaller number has the first of these episodes
    assert _taken() == given[:5]
    render("latest", baseline="random", episodes=3)
    video = _taken()
    assert video[::2] == video[1::2]
