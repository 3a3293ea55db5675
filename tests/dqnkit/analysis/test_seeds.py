"""Which seeds reach the environments: never one of training in evaluation or in a video."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import pytest

from dqnkit.analysis.policy_evaluation import evaluate
from dqnkit.analysis.video import VideoOptions, render
from dqnkit.config import loading, seeds
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.runs.trainer import train
from dqnkit.tracking import make_tracker
from tests.environments import DrawnCorridor


class Seeded(DrawnCorridor):
    """Remembers the seeds that it is given."""

    given: ClassVar[list[int]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.given.append(seed)
        return super().reset(seed=seed, options=options)


gymnasium.register("Seeded-v0", entry_point=Seeded, max_episode_steps=1_000)


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    Seeded.given.clear()


def _taken() -> list[int]:
    taken = Seeded.given.copy()
    Seeded.given.clear()
    return taken


def _trained() -> tuple[Config, list[int]]:
    """A run in the store, and the seeds that its environments were given."""
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
    train(config, make_tracker(config))
    return config, _taken()


def test_no_seed_is_met_twice() -> None:
    config, training = _trained()
    assert set(seeds.training_environment_seeds(0, config.env.num_envs)) <= set(training)
    evaluate("latest", 40)
    evaluation = _taken()
    render("latest", VideoOptions(episodes=10))
    video = _taken()
    everything = [*training, *evaluation, *video]
    assert (len(evaluation), len(video)) == (48, 10)  # three batches of sixteen
    assert len(set(everything)) == len(everything)


def test_seeds_of_training_are_left_out_should_chance_bring_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _trained()
    evaluate("latest", 16)
    render("latest", VideoOptions(episodes=2))
    drawn = _taken()
    forbidden = [drawn[3], drawn[-1]]
    for user in ("dqnkit.evaluation.factory", "dqnkit.analysis.video"):
        monkeypatch.setattr(f"{user}.training_environment_seeds", lambda *_: forbidden)
    evaluate("latest", 16)
    assert len(_taken()) == 16
    evaluate("latest", 16)
    render("latest", VideoOptions(episodes=2))
    again = _taken()
    assert not set(forbidden) & set(again)
    assert len(again) == 18


def test_policies_and_random_actions_meet_the_same_initial_states() -> None:
    _trained()
    evaluate("latest", 20, baseline="random")
    given = _taken()
    assert given[:32] == given[32:]
    evaluate("latest", 5)  # fewer are the first of more
    assert _taken() == given[:5]
    render("latest", VideoOptions(baseline="random", episodes=3))
    video = _taken()
    assert video[::2] == video[1::2]
