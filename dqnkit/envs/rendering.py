"""One environment that is drawn as it is played."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from dqnkit._system.text import one_line
from dqnkit.config.sections import EnvConfig, WrapperConfig
from dqnkit.envs import factory
from dqnkit.envs.failures import wrap_env_errors
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError

_DEFAULT_FPS = 15.0
"""Of environments that do not say how fast they go."""


class RenderedEnvironment:
    """A Gymnasium environment in `rgb_array` mode; no display is needed."""

    def __init__(
        self,
        config: EnvConfig,
        spec: EnvSpec,
        wrappers: Sequence[WrapperConfig] | None = None,
    ) -> None:
        """Makes it.

        Args:
          config: How.
          spec: Of it, as `factory.describe_env` gives it.
          wrappers: In place of the configuration's.

        Raises:
          UnsupportedEnvironmentError: It cannot be made, or cannot draw.
        """
        # SDL, which draws for Gymnasium, looks for a screen and for sound otherwise.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        self._spec = spec
        self._dtype = np.dtype(spec.observation.dtype)
        _check_that_it_draws(config, wrappers)
        env = factory.make_env(config, wrappers, render_mode="rgb_array")
        if spec.observation.frame_stack > 1:
            env = gymnasium.wrappers.FrameStackObservation(env, spec.observation.frame_stack)
        self._env = env

    @property
    def fps(self) -> float:
        """Frames a second at which it looks as fast as it is meant to be."""
        fps = self._env.metadata.get("render_fps")
        if isinstance(fps, int | float) and 0.0 < fps < math.inf:
            return float(fps)
        return _DEFAULT_FPS

    @property
    def action_names(self) -> list[str]:
        """What each action is called; its number where nothing is known."""
        with contextlib.suppress(Exception):  # what it cannot tell, it need not tell
            meanings = self._env.get_wrapper_attr("get_action_meanings")()  # of Atari's games
            if len(meanings) == self._spec.num_actions:
                return [str(name).lower() for name in meanings]
        first = self._spec.first_action
        return [f"action {first + index}" for index in range(self._spec.num_actions)]

    def reset(self, seed: int) -> np.ndarray:
        """Starts an episode; its first observation, [*observation.shape]."""
        with wrap_env_errors(self._spec.id, "reset"):
            observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation, self._dtype)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """Takes an action, counted from 0: observation, reward, terminated, truncated."""
        with wrap_env_errors(self._spec.id, "step"):
            observation, reward, terminated, truncated, _ = self._env.step(
                action + self._spec.first_action
            )
        return (
            np.asarray(observation, self._dtype),
            float(reward),
            bool(terminated),
            bool(truncated),
        )

    def frame(self) -> np.ndarray:
        """The picture of the present state, uint8 [height, width, 3].

        Raises:
          EnvironmentFailedError: It draws nothing, or something that is no picture.
        """
        with wrap_env_errors(self._spec.id, "render"):
            drawn: Any = self._env.render()
            picture: np.ndarray = np.asarray(drawn if drawn is not None else [])
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        if picture.ndim != 3 or picture.shape[2] not in {3, 4} or picture.size == 0:
            raise EnvironmentFailedError(
                f"{self._spec.id!r}: render gave {one_line(repr(drawn))[:80]}, and a frame is an "
                "array [height, width, 3] of bytes"
            )
        if picture.dtype.kind in "fb":  # in [0, 1], as matplotlib has it
            picture = np.clip(picture, 0.0, 1.0) * 255
        return np.ascontiguousarray(picture[..., :3].astype(np.uint8))

    def close(self) -> None:
        """Ends the environment."""
        self._env.close()


def _check_that_it_draws(config: EnvConfig, wrappers: Sequence[WrapperConfig] | None) -> None:
    """Asks an environment that does not draw: one that cannot may not even take the argument."""
    env = factory.make_env(config, wrappers)
    with contextlib.closing(env):
        modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} cannot be drawn: its metadata['render_modes'] is "
            f"{list(modes)}, and a video needs 'rgb_array'; give the class a render method that "
            "returns an array [height, width, 3] of bytes"
        )
