"""Every way of starting anew gives the transitions that one environment after another gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import factory
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
    environment = VectorEnvironment(config, factory.describe_env(config), NUM_ENVS)
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
    environment = VectorEnvironment(config, factory.describe_env(config), 1)
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


class Overwriting(gymnasium.Env[Any, Any]):
    """Writes every observation into the same array."""

    observation_space = gymnasium.spaces.Box(0, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.position = np.zeros(1, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.position[:] = 0
        return self.position, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.position += 1
        return self.position, 1.0, bool(self.position[0] == 3), False, {}


gymnasium.register("Overwriting-v0", entry_point=Overwriting)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_the_last_frame_survives_an_environment_that_overwrites_it(vectorization: str) -> None:
    module_and_id = "tests.dqnkit.envs.test_vector:Overwriting-v0"
    config = EnvConfig(id=module_and_id, vectorization=vectorization)
    environment = VectorEnvironment(config, factory.describe_env(config), 2)
    environment.reset([0, 1])
    seen = [environment.step(np.zeros(2, int)).frame[:, 0].tolist() for _ in range(6)]
    environment.close()
    assert seen == [[1, 1], [2, 2], [3, 3], [1, 1], [2, 2], [3, 3]]


class Reusing(SyncVectorEnv):
    """Hands out the arrays that it goes on to use, as Gymnasium allows."""

    def __init__(self, num_envs: int) -> None:
        maker = lambda: gymnasium.make("Overwriting-v0")  # noqa: E731 - short
        super().__init__([maker] * num_envs, autoreset_mode=AutoresetMode.DISABLED)

    def step(self, actions: Any) -> Any:
        observation, *_, infos = super().step(actions)
        return observation, self._rewards, self._terminations, self._truncations, infos


def test_ends_survive_a_class_that_clears_its_arrays_at_a_reset() -> None:
    gymnasium.register("Reusing-v0", vector_entry_point=Reusing)
    config = EnvConfig(id="Reusing-v0", vectorization="vector_entry_point")
    environment = VectorEnvironment(config, factory.describe_env(config), 2)
    environment.reset([0])
    steps = [environment.step(np.zeros(2, int)) for _ in range(3)]
    assert steps[-1].terminated.all()
    assert steps[-1].started.all()


def test_a_vector_class_that_does_not_say_how_it_resets_is_refused() -> None:
    class Mute(SyncVectorEnv):
        def __init__(self, num_envs: int) -> None:
            super().__init__([lambda: gymnasium.make("FrozenLake-v1")] * num_envs)
            self.metadata = {}

    gymnasium.register("Mute-v0", vector_entry_point=Mute)
    config = EnvConfig(id="Mute-v0", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match="autoreset_mode"):
        VectorEnvironment(config, factory.describe_env(config), 2)


def test_a_class_without_a_vector_version_says_so() -> None:
    config = EnvConfig(id="LunarLander-v3", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match="vector entry point"):
        factory.describe_env(config)
