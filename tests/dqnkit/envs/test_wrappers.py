from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers.utils import RunningMeanStd

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.factory import make_env
from dqnkit.envs.wrappers import changes_rewards
from dqnkit.errors import UnsupportedEnvironmentError

CORRIDOR = "tests.environments:Corridor-v0"


class Counting(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A wrapper of somebody's own that keeps statistics."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.statistics = RunningMeanStd(shape=(1,))

    def observation(self, observation: Any) -> Any:
        return observation


class Halved(gymnasium.RewardWrapper[Any, Any]):
    """A wrapper of somebody's own that changes rewards."""

    def reward(self, reward: Any) -> Any:
        return reward / 2


def _normalized() -> gymnasium.Env[Any, Any]:
    return gymnasium.wrappers.NormalizeReward(gymnasium.make("CartPole-v1"))


gymnasium.register("Normalized-v0", entry_point=_normalized)


@pytest.mark.parametrize(
    ("env_id", "wrappers", "name"),
    [
        (CORRIDOR, ["gymnasium.wrappers.NormalizeObservation"], "NormalizeObservation"),
        (
            CORRIDOR,
            ["gymnasium.wrappers.NormalizeReward", "gymnasium.wrappers.FlattenObservation"],
            "NormalizeReward",
        ),
        (CORRIDOR, [f"{__name__}.Counting"], f"{__name__}.Counting"),
        ("Normalized-v0", [], "NormalizeReward"),
    ],
)
def test_wrappers_that_keep_statistics_are_refused(
    env_id: str, wrappers: list[str], name: str
) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=f"{name} keeps running statistics"):
        make_env(EnvConfig(id=env_id, wrappers=wrappers))


def test_a_video_is_made_by_render() -> None:
    wrapper = {"gymnasium.wrappers.RecordVideo": {"video_folder": "videos"}}
    with pytest.raises(UnsupportedEnvironmentError, match="`dqnkit render`"):
        make_env(EnvConfig(id="CartPole-v1", wrappers=[wrapper]))


def test_drawn_observations_name_the_render_mode_that_they_need() -> None:
    drawn = ["gymnasium.wrappers.AddRenderObservation"]
    with pytest.raises(UnsupportedEnvironmentError, match=r"env\.kwargs\.render_mode=rgb_array"):
        make_env(EnvConfig(id="CartPole-v1", wrappers=drawn))
    env = make_env(EnvConfig(id="CartPole-v1", wrappers=drawn, kwargs={"render_mode": "rgb_array"}))
    observation, _ = env.reset(seed=0)
    assert (observation.shape, observation.dtype) == ((400, 600, 3), np.uint8)
    env.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gymnasium.wrappers.ClipReward", True),
        ("gymnasium.wrappers.TransformReward", True),
        (f"{__name__}.Halved", True),
        ("gymnasium.wrappers.FlattenObservation", False),
        ("gymnasium.wrappers.AtariPreprocessing", False),
        ("builtins.id", False),
    ],
)
def test_wrappers_made_to_change_rewards_are_known(path: str, expected: bool) -> None:
    (wrapper,) = EnvConfig(wrappers=[path]).wrappers
    assert changes_rewards(wrapper) is expected
