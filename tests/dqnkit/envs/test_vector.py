"""Every way of starting anew gives the transitions that one environment after another gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dqnkit.config import EnvConfig
from dqnkit.envs import gymnasium_envs
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import UnsupportedEnvironmentError

NUM_ENVS = 3
LIMIT = 7  # FrozenLake's episodes end in holes, at the goal, and here


class Transition(NamedTuple):
    """What an agent may learn from."""

    observation: int
    action: int
    reward: float
    terminated: bool
    truncated: bool
    following: int


def _action(env: int, steps: int) -> int:
    """An action that depends on the environment's own steps alone, whatever resets cost."""
    return (env * 7 + steps * steps + steps // 3) % 4


def _one_by_one(env: gymnasium.Env[Any, Any], index: int, count: int) -> Iterator[Transition]:
    observation, _ = env.reset(seed=index + 50)
    for steps in range(count):
        action = _action(index, steps)
        following, reward, terminated, truncated, _ = env.step(action)
        yield Transition(observation, action, float(reward), terminated, truncated, following)
        observation = env.reset()[0] if terminated or truncated else following


def _together(environment: VectorEnvironment, count: int) -> list[list[Transition]]:
    found: list[list[Transition]] = [[] for _ in range(NUM_ENVS)]
    environment.reset([50, 51, 52])
    while min(map(len, found)) < count:
        before = environment.frame.copy()
        actions = np.array([_action(i, len(found[i])) for i in range(NUM_ENVS)])
        step = environment.step(actions)
        for i in np.flatnonzero(step.stepped):
            found[i].append(
                Transition(
                    before[i],
                    actions[i],
                    step.reward[i],
                    step.terminated[i],
                    step.truncated[i],
                    step.frame[i],
                )
            )
    return [transitions[:count] for transitions in found]


class _FromMode(NamedTuple):
    """A vector entry point for one of Gymnasium's autoreset modes."""

    mode: AutoresetMode

    def __call__(self, num_envs: int, **kwargs: Any) -> SyncVectorEnv:
        maker = lambda: gymnasium.make("FrozenLake-v1", **kwargs)  # noqa: E731 - short
        return SyncVectorEnv([maker] * num_envs, autoreset_mode=self.mode)


for _mode in AutoresetMode:
    gymnasium.register(f"Ice{_mode.name}-v0", vector_entry_point=_FromMode(_mode))

CONFIGS = {
    "sync": EnvConfig(id="FrozenLake-v1", kwargs={"max_episode_steps": LIMIT}),
    "async": EnvConfig(
        id="FrozenLake-v1", kwargs={"max_episode_steps": LIMIT}, vectorization="async"
    ),
} | {
    mode.name: EnvConfig(
        id=f"Ice{mode.name}-v0",
        kwargs={"max_episode_steps": LIMIT},
        vectorization="vector_entry_point",
    )
    for mode in AutoresetMode
}


@pytest.mark.parametrize("name", CONFIGS)
def test_transitions_are_those_of_one_environment_after_another(name: str) -> None:
    config, count = CONFIGS[name], 60
    environment = VectorEnvironment(config, gymnasium_envs.describe(config), NUM_ENVS)
    found = _together(environment, count)
    environment.close()
    ends = set()
    for index, transitions in enumerate(found):
        env = gymnasium.make("FrozenLake-v1", max_episode_steps=LIMIT)
        expected = list(_one_by_one(env, index, count))
        assert transitions == expected
        ends |= {(t.terminated, t.truncated) for t in expected}
    assert {(True, False), (False, True)} <= ends


@pytest.mark.parametrize("name", ["sync", "NEXT_STEP"])
def test_stacks_are_those_of_gymnasiums_wrapper(name: str) -> None:
    config = CONFIGS[name].model_copy(update={"frame_stack": 3})
    environment = VectorEnvironment(config, gymnasium_envs.describe(config), 1)
    single = gymnasium.wrappers.FrameStackObservation(
        gymnasium.make("FrozenLake-v1", max_episode_steps=LIMIT), 3, padding_type="reset"
    )
    environment.reset([50])
    expected, _ = single.reset(seed=50)
    for steps in range(60):
        np.testing.assert_array_equal(environment.observation[0], expected)
        step = environment.step(np.array([_action(0, steps)]))
        expected, _, terminated, truncated, _ = single.step(_action(0, steps))
        if terminated or truncated:
            assert step.done[0]
            if name == "NEXT_STEP":  # this step is spent on the reset
                assert not environment.step(np.array([0])).stepped[0]
            expected, _ = single.reset()


def test_a_vector_class_that_does_not_say_how_it_resets_is_refused() -> None:
    class Mute(SyncVectorEnv):
        def __init__(self, num_envs: int) -> None:
            super().__init__([lambda: gymnasium.make("FrozenLake-v1")] * num_envs)
            self.metadata = {}

    gymnasium.register("Mute-v0", vector_entry_point=Mute)
    config = EnvConfig(id="Mute-v0", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match="autoreset_mode"):
        VectorEnvironment(config, gymnasium_envs.describe(config), 2)


def test_a_class_without_a_vector_version_says_so() -> None:
    config = EnvConfig(id="LunarLander-v3", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match="vector entry point"):
        gymnasium_envs.describe(config)
