"""A single environment that renders frames while it is played."""

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
"""Frame rate of environments whose metadata names none."""


class RenderedEnvironment:
    """A Gymnasium environment in `rgb_array` mode, which needs no display."""

    def __init__(
        self,
        config: EnvConfig,
        spec: EnvSpec,
        wrappers: Sequence[WrapperConfig] | None = None,
    ) -> None:
        """Create the environment.

        Args:
          config: Configuration of the environment.
          spec: Spec of the environment, as returned by `factory.describe_env`.
          wrappers: Wrappers that replace those of the configuration.

        Raises:
          UnsupportedEnvironmentError: If the environment cannot be created, or cannot render.
        """
        # Without these, SDL, with which Gymnasium renders, looks for a display and a sound device.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        self._spec = spec
        self._dtype = np.dtype(spec.observation.dtype)
        _check_rendering_supported(config, wrappers)
        env = factory.make_env(config, wrappers, render_mode="rgb_array")
        if spec.observation.frame_stack > 1:
            env = gymnasium.wrappers.FrameStackObservation(env, spec.observation.frame_stack)
        self._env = env

    @property
    def fps(self) -> float:
        """Number of frames per second that the environment's metadata recommends."""
        fps = self._env.metadata.get("render_fps")
        if isinstance(fps, int | float) and 0.0 < fps < math.inf:
            return float(fps)
        return _DEFAULT_FPS

    @property
    def action_names(self) -> list[str]:
        """Names of the actions, or their numbers if the environment has no names for them."""
        with contextlib.suppress(Exception):  # names are optional
            meanings = self._env.get_wrapper_attr("get_action_meanings")()  # Atari has this method
            if len(meanings) == self._spec.num_actions:
                return [str(name).lower() for name in meanings]
        first = self._spec.first_action
        return [f"action {first + index}" for index in range(self._spec.num_actions)]

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode and return its first observation, [*observation.shape]."""
        with wrap_env_errors(self._spec.id, "reset"):
            observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation, self._dtype)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """Take an action, counted from 0.

        Returns:
          Observation [*observation.shape], reward, terminated and truncated.
        """
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
        """Render the current state.

        Returns:
          Frame of the current state, uint8 [height, width, 3].

        Raises:
          EnvironmentFailedError: If `render` fails, or returns something that is not an image.
        """
        with wrap_env_errors(self._spec.id, "render"):
            rendered: Any = self._env.render()
            image: np.ndarray = np.asarray(rendered if rendered is not None else [])
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] not in {3, 4} or image.size == 0:
            raise EnvironmentFailedError(
                f"{self._spec.id!r}: render returned {one_line(repr(rendered))[:80]}, but it must "
                "return an array [height, width, 3] of bytes"
            )
        if image.dtype.kind in "fb":  # in [0, 1], as in matplotlib
            image = np.clip(image, 0.0, 1.0) * 255
        return np.ascontiguousarray(image[..., :3].astype(np.uint8))

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _check_rendering_supported(config: EnvConfig, wrappers: Sequence[WrapperConfig] | None) -> None:
    # The constructor of an environment that cannot render may not even accept a render mode.
    env = factory.make_env(config, wrappers)
    with contextlib.closing(env):
        modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} cannot be drawn: its metadata['render_modes'] is "
            f"{list(modes)}, and a video needs 'rgb_array'; add this mode and a render method that "
            "returns an array [height, width, 3] of bytes to the class"
        )
