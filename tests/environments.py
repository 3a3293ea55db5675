"""Environments whose transitions are easy to predict, for both loops.

A Corridor is a deterministic walk: the state counts up from 0 and is terminal at `length`. Each
step gives a reward of 10, whatever the action.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dqnkit._system.tensorflow import Tensor, tf

VIEWS = {
    "state": spaces.Box(-np.inf, np.inf, (1,), np.float64),
    "one_hot": spaces.Box(0, 1, (6,), np.int64),
    "discrete": spaces.Discrete(2_000, start=3),
    "constant": spaces.Box(1, 1, (1,), np.float32),
    "image": spaces.Box(0, 255, (6, 5), np.uint8),
    "channels_first": spaces.Box(0, 255, (2, 6, 5), np.uint8),
    "bits": spaces.Box(0, 1, (6, 5, 3), np.bool_),
    "nested": spaces.Dict({"a": spaces.Discrete(6), "b": spaces.Tuple((spaces.Discrete(2),))}),
    "matrix": spaces.Box(-1, 1, (2, 3), np.float64),
    "endless": spaces.Discrete(2**30),
    "nothing": spaces.Box(0, 1, (0,), np.float32),
    "text": spaces.Sequence(spaces.Discrete(2)),
}
"""Observation spaces, by the name that the argument `observe` takes."""


def view(name: str, state: int) -> Any:
    """Return the observation of a state; every pixel of an image is the state."""
    space = VIEWS[name]
    if name == "one_hot":
        return np.eye(6, dtype=np.int64)[state]
    if name == "discrete":
        return np.int64(3 + state)
    if name == "nested":
        return {"a": state % 6, "b": (1,)}
    if name == "bits":
        return np.arange(90).reshape(6, 5, 3) % 7 == state % 7
    value = 1 if name == "constant" else state
    return np.full(space.shape, value, space.dtype)


class GymnasiumCorridor(gymnasium.Env[Any, Any]):
    """A Corridor as a Gymnasium environment."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, length: int = 5, observe: str = "state", first_action: int = 0) -> None:
        self.length, self.observe = length, observe
        self.observation_space = VIEWS[observe]
        self.action_space = spaces.Discrete(3, start=first_action)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = 0
        return view(self.observe, self.state), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.state += 1
        return view(self.observe, self.state), 10.0, self.state >= self.length, False, {}


class DrawnCorridor(GymnasiumCorridor):
    """A Corridor whose rendered frame grows brighter with the state."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        return np.full((40, 60, 3), min(255, 10 * self.state), np.uint8)


def vector_corridor(
    num_envs: int, autoreset_mode: str = "NextStep", max_episode_steps: int = 1_000, **kwargs: Any
) -> SyncVectorEnv:
    """Return the Corridor's own vector environment, in any autoreset mode."""
    maker = lambda: gymnasium.wrappers.TimeLimit(  # noqa: E731 - short
        GymnasiumCorridor(**kwargs), max_episode_steps
    )
    return SyncVectorEnv([maker] * num_envs, autoreset_mode=AutoresetMode(autoreset_mode))


class Doubled(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that multiplies rewards, for tests of wrappers and their arguments."""

    def __init__(self, env: gymnasium.Env[Any, Any], factor: float = 2.0) -> None:
        super().__init__(env)
        self.factor = factor

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward) * self.factor, terminated, truncated, info


class Reshaped(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A wrapper that makes all observations empty images of a shape."""

    def __init__(self, env: gymnasium.Env[Any, Any], shape: tuple[int, ...]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        return np.zeros(self.observation_space.shape, np.uint8)


class Loud(GymnasiumCorridor):
    """A Corridor that prints on creation, from Python and from a child process."""

    def __init__(self) -> None:
        super().__init__()
        print("said by Python")  # noqa: T201 - what is tested
        subprocess.run(["echo", "said by a child"], check=True)


gymnasium.register("Drawn-v0", entry_point=DrawnCorridor, max_episode_steps=1_000)
gymnasium.register("Loud-v0", entry_point=Loud)
gymnasium.register(
    "Corridor-v0",
    entry_point=GymnasiumCorridor,
    vector_entry_point=vector_corridor,
    max_episode_steps=1_000,
)


@dataclass(frozen=True)
class GraphCorridor:
    """A Corridor as TensorFlow operations (`Dynamics`)."""

    id: str = "Corridor-v0"
    length: int = 5
    max_episode_steps: int = 1_000
    observe_as: str = "state"
    num_actions: int = 3
    state_size: int = 1
    num_reset_uniforms: int = 1
    num_step_uniforms: int = 0

    @property
    def observation_size(self) -> int:
        return 6 if self.observe_as == "one_hot" else 1

    def reset(self, uniforms: Tensor) -> Tensor:
        return tf.zeros_like(uniforms)

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        following = state + 1.0
        reward = tf.fill([tf.shape(state)[0]], 10.0)
        return following, reward, following[:, 0] >= self.length

    def observe(self, state: Tensor) -> Tensor:
        if self.observe_as == "one_hot":
            return tf.one_hot(tf.cast(state[:, 0], tf.int32), self.observation_size)
        if self.observe_as == "constant":
            return tf.ones_like(state, tf.float32)
        return tf.cast(state, tf.float32)
