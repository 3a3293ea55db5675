"""All autoreset modes give the transitions that environments give when they are stepped singly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.description import describe_env
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError
from tests.faulty import BROKEN

NUM_ENVS = 3
LIMIT = 7  # FrozenLake's episodes end in holes, at the goal, and at this limit


class Transition(NamedTuple):
    """A transition of one environment."""

    observation: int
    action: int
    reward: float
    terminated: bool
    truncated: bool
    following: int


def _action(env: int, steps: int) -> int:
    """An action that depends only on the environment's own steps, not on steps spent on resets."""
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
    environment = VectorEnvironment(config, describe_env(config), NUM_ENVS)
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
    environment = VectorEnvironment(config, describe_env(config), 1)
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
    environment = VectorEnvironment(config, describe_env(config), 2)
    environment.reset([0, 1])
    seen = [environment.step(np.zeros(2, int)).frame[:, 0].tolist() for _ in range(6)]
    environment.close()
    assert seen == [[1, 1], [2, 2], [3, 3], [1, 1], [2, 2], [3, 3]]


class Reusing(SyncVectorEnv):
    """Returns its own arrays, which it reuses, as Gymnasium allows."""

    def __init__(self, num_envs: int) -> None:
        maker = lambda: gymnasium.make("Overwriting-v0")  # noqa: E731 - short
        super().__init__([maker] * num_envs, autoreset_mode=AutoresetMode.DISABLED)

    def step(self, actions: Any) -> Any:
        observation, *_, infos = super().step(actions)
        return observation, self._rewards, self._terminations, self._truncations, infos


def test_ends_survive_a_class_that_clears_its_arrays_at_a_reset() -> None:
    gymnasium.register("Reusing-v0", vector_entry_point=Reusing)
    config = EnvConfig(id="Reusing-v0", vectorization="vector_entry_point")
    environment = VectorEnvironment(config, describe_env(config), 2)
    environment.reset([0])
    steps = [environment.step(np.zeros(2, int)) for _ in range(3)]
    assert steps[-1].terminated.all()
    assert steps[-1].started.all()


def test_a_vector_class_without_an_autoreset_mode_is_refused() -> None:
    class Mute(SyncVectorEnv):
        def __init__(self, num_envs: int) -> None:
            super().__init__([lambda: gymnasium.make("FrozenLake-v1")] * num_envs)
            self.metadata = {}

    gymnasium.register("Mute-v0", vector_entry_point=Mute)
    config = EnvConfig(id="Mute-v0", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match="autoreset_mode"):
        VectorEnvironment(config, describe_env(config), 2)


def test_an_environment_without_a_vector_class_is_refused() -> None:
    config = EnvConfig(id="LunarLander-v3", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match="vector entry point"):
        describe_env(config)


def _make(env_id: str, num_envs: int = 2, **settings: Any) -> VectorEnvironment:
    config = EnvConfig(id=env_id, **settings)
    return VectorEnvironment(config, describe_env(config), num_envs)


@pytest.mark.parametrize("vectorization", ["sync", "vector_entry_point"])
def test_actions_are_counted_from_zero_whatever_the_environment_counts_from(
    vectorization: str,
) -> None:
    environment = _make(
        "tests.environments:Corridor-v0",
        kwargs={"first_action": 5},
        vectorization=vectorization,
    )
    environment.reset([0, 1])
    for action in range(3):  # the Corridor refuses actions below 5 and above 7
        assert environment.step(np.full(2, action)).reward.tolist() == [10.0, 10.0]
    with pytest.raises(EnvironmentFailedError, match=r"failed in step.*: AssertionError"):
        environment.step(np.full(2, 3))


@pytest.mark.parametrize(
    ("observe", "shape", "dtype"),
    [("state", (2, 1), "float32"), ("discrete", (2,), "uint16"), ("image", (2, 6, 5), "uint8")],
)
def test_frames_have_the_shape_and_dtype_of_the_spec(
    observe: str, shape: tuple[int, ...], dtype: str
) -> None:
    environment = _make("tests.environments:Corridor-v0", kwargs={"observe": observe})
    environment.reset([0, 1])
    step = environment.step(np.zeros(2, int))
    for frame in (environment.frame, environment.observation, step.frame):
        assert (frame.shape, frame.dtype) == (shape, dtype)
    assert (step.reward.dtype, step.stepped.dtype, step.done.dtype) == ("float32", "bool", "bool")


def test_seeds_determine_the_episodes_of_an_environment() -> None:
    environment = _make("FrozenLake-v1", num_envs=3)

    def play() -> list[list[int]]:
        environment.reset([7, 8, 7])
        return [environment.step(np.full(3, 2)).frame.tolist() for _ in range(12)]

    frames = play()
    assert play() == frames
    assert all(first == third for first, _, third in frames)
    assert any(first != second for first, second, _ in frames)


@pytest.mark.parametrize(
    ("fault", "vectorization", "message"),
    [
        (
            "raise",
            "sync",
            r"of 2\) failed in step 3 of an episode: RuntimeError: out of ice",
        ),
        (
            "raise",
            "async",
            r"of 2\) failed in step 3 of an episode: RuntimeError: out of ice",
        ),
        ("hang", "sync", "hangs: .*env.step_timeout=1 seconds"),
        ("hang", "async", "hangs: .*env.step_timeout=1 seconds"),
        ("die", "async", "a process of .* has died in step .*env.vectorization=sync"),
        (
            "nan reward",
            "sync",
            r"\(environment 1 of 2\), in step 3 of an episode, gave a reward that is not finite",
        ),
        ("infinite reward", "sync", "gave a reward that is not finite: inf"),
        (
            "nan observation",
            "sync",
            r"\(environment 1 of 2\), in step 3 of an episode, gave an observation that is not "
            "finite: it contains nan",
        ),
    ],
)
def test_faults_of_an_environment_name_it_and_their_kind(
    fault: str, vectorization: str, message: str
) -> None:
    environment = _make(
        "tests.faulty:Faulty-v0",
        kwargs={"fault": fault, "after": 3},
        vectorization=vectorization,
        step_timeout=1.0,
    )
    environment.reset([0, 1])
    BROKEN.touch()
    environment.step(np.zeros(2, int))
    environment.step(np.zeros(2, int))
    with pytest.raises(EnvironmentFailedError, match=message):
        environment.step(np.zeros(2, int))
    environment.close()


def test_a_frame_that_is_not_finite_is_an_error_of_the_reset() -> None:
    environment = _make("tests.faulty:Faulty-v0", kwargs=_not_finite_at("reset"))
    BROKEN.touch()
    with pytest.raises(EnvironmentFailedError, match="gave an observation that is not finite"):
        environment.reset([0, 1])


def test_a_frame_that_is_not_finite_is_an_error_of_the_reset_within_a_step() -> None:
    environment = _make("tests.faulty:Faulty-v0", kwargs=_not_finite_at("reset"))
    environment.reset([0, 1])
    BROKEN.touch()
    for _ in range(9):
        environment.step(np.zeros(2, int))
    with pytest.raises(EnvironmentFailedError, match="gave an observation that is not finite"):
        environment.step(np.zeros(2, int))


def _not_finite_at(call: str) -> dict[str, Any]:
    return {"fault": "infinite observation", "call": call, "after": 0}


def test_closing_ends_processes_that_are_busy() -> None:
    environment = _make(
        "tests.faulty:Faulty-v0", kwargs={"fault": "busy", "after": 1}, vectorization="async"
    )
    environment.reset([0, 1])
    BROKEN.touch()
    assert isinstance(environment._envs, AsyncVectorEnv)
    processes = environment._envs.processes
    environment._envs.step_async(np.zeros(2, int))
    environment._is_idle = False
    assert all(process.is_alive() for process in processes)
    environment.close()
    assert not any(process.is_alive() for process in processes)
