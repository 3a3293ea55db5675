"""A single environment that renders frames while it is played."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

import gymnasium
import numpy as np

from dqnkit._system.text import short_repr
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import factory
from dqnkit.envs.checks import ADVICE
from dqnkit.envs.closing import close_all, closer
from dqnkit.envs.description import describe_env
from dqnkit.envs.failures import ENVIRONMENT_EXCEPTIONS, wrap_env_errors
from dqnkit.envs.observations import InvalidObservationError, ObservationEncoder
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError

_DRIVER = "SDL_VIDEODRIVER"
_DEFAULT_FPS = 15.0
"""Frame rate of environments whose metadata names none."""


class RenderedEnvironment:
    """A Gymnasium environment in `rgb_array` mode, which needs no display."""

    def __init__(
        self,
        config: EnvConfig,
        spec: EnvSpec,
    ) -> None:
        """Create the environment.

        Args:
          config: Configuration of the environment.
          spec: Spec of the environment, as returned by `description.describe_env`.

        Raises:
          UnsupportedEnvironmentError: If the environment cannot be created, or cannot render.
        """
        self._config = config
        self._spec = spec
        _check_rendering_supported(config, spec)
        self._open()
        self._has_drawn = False
        self._unit_floats: bool | None = None
        """True if frames of floats go from 0 to 1, False if to 255; None while all were black."""
        self._at = 0

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
        self._at = 0
        observation = self._reset(seed)
        if not self._has_drawn:
            self._has_drawn = True
            if _DRIVER not in os.environ and self._fails_to_draw():
                os.environ[_DRIVER] = "dummy"
                self.close()
                self._open()
                observation = self._reset(seed)
                if self._fails_to_draw():  # for another reason, which the first frame tells
                    del os.environ[_DRIVER]
        return self._finite(observation)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """Take an action, counted from 0.

        Returns:
          Observation [*observation.shape], reward, terminated and truncated.
        """
        self._at += 1
        with wrap_env_errors(self._spec.id, "step"):
            observation, reward, terminated, truncated, _ = self._stacked.step(
                action + self._spec.first_action
            )
        return self._finite(observation), float(reward), terminated, truncated

    def _open(self) -> None:
        single = self._config.model_copy(update={"vectorization": "sync"})
        self._env = factory.make_checked_env(single, self._spec, render_mode="rgb_array")
        self._stacked: gymnasium.Env[Any, Any] = self._env
        stack = self._spec.observation.frame_stack
        if stack > 1:
            self._stacked = gymnasium.wrappers.FrameStackObservation(self._env, stack)

    def _reset(self, seed: int) -> np.ndarray:
        with wrap_env_errors(self._spec.id, "reset"):
            observation: np.ndarray = self._stacked.reset(seed=seed)[0]
        return observation

    def _fails_to_draw(self) -> bool:
        """Return whether drawing fails, for example because SDL finds no display.

        SDL, with which Gymnasium draws, needs a display for windows alone. Its driver without one
        is no default, as some environments, such as highway-env, then draw nothing at all.
        """
        try:
            self._env.render()
        except ENVIRONMENT_EXCEPTIONS:  # of the environment's own code
            return True
        return False

    def _finite(self, observation: np.ndarray) -> np.ndarray:
        frames = observation.reshape(-1, *self._spec.observation.frame_shape)
        try:
            ObservationEncoder(self._spec.observation).check_finite(frames)
        except InvalidObservationError as error:
            raise EnvironmentFailedError(f"{self._spec.id!r} {error}; {ADVICE}") from None
        return observation

    def frame(self) -> np.ndarray:
        """Render the current state.

        Returns:
          Frame of the current state, uint8 [height, width, 3].

        Raises:
          EnvironmentFailedError: If `render` fails, or returns something that is not an image.
        """
        with wrap_env_errors(self._spec.id, f"render {self._when}"):
            rendered: Any = self._env.render()
            image: np.ndarray = np.asarray(rendered if rendered is not None else [])
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] not in {3, 4} or image.size == 0:
            if isinstance(rendered, np.ndarray):
                found = f"an array of shape {rendered.shape} and type {rendered.dtype}"
            else:
                found = short_repr(rendered)
            raise EnvironmentFailedError(
                f"{self._spec.id!r}: render returned {found} {self._when}, but it must return an "
                "array [height, width, 3] of bytes"
            )
        return np.ascontiguousarray(self._as_bytes(image[..., :3]))

    @property
    def _when(self) -> str:
        """Clause on the moment at which a frame is drawn."""
        return f"after step {self._at} of an episode" if self._at else "after reset"

    def close(self) -> list[str]:
        """Close the environment; return warnings about what went wrong."""
        return close_all([self._env.finish], self._spec.id, self._config.step_timeout)

    def _as_bytes(self, image: np.ndarray) -> np.ndarray:
        """Return the pixels as bytes from 0 to 255.

        Raises:
          EnvironmentFailedError: If the range of the numbers leaves their meaning open.
        """
        if image.dtype.kind == "b":
            return image.astype(np.uint8) * 255
        if image.dtype == np.uint8:
            return image
        low, high = (image.min(), image.max()) if image.dtype.kind in "iuf" else (np.nan, np.nan)
        is_unit = image.dtype.kind == "f" and high <= 1.0
        # A picture that fades in from black begins with zeros, which mean the same either way.
        if image.dtype.kind == "f" and self._unit_floats is None and high > 0.0:
            self._unit_floats = is_unit
        if self._unit_floats and is_unit and low >= 0.0:  # as in matplotlib
            return (image * 255).astype(np.uint8)
        if not (low >= 0 and high <= 255) or self._unit_floats:
            before = ", after frames of floats from 0 to 1" if self._unit_floats else ""
            raise EnvironmentFailedError(
                f"{self._spec.id!r}: render returned {image.dtype} numbers from {low:g} to "
                f"{high:g} {self._when}{before}, but the pixels must be bytes from 0 to 255, or "
                "floats from 0 to 1 in every frame"
            )
        return image.astype(np.uint8)


def _check_rendering_supported(config: EnvConfig, spec: EnvSpec) -> None:
    single = config.model_copy(update={"vectorization": "sync"})
    # The constructor of an environment that cannot render may not even accept a render mode.
    env = factory.make_env(single)
    modes = env.metadata.get("render_modes") or []
    close_all([closer(env)], config.id, config.step_timeout)
    old_name = env.metadata.get("render.modes")
    if "rgb_array" not in modes and old_name is not None:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} cannot be drawn: it names its render modes {list(old_name)} in "
            "metadata['render.modes'], as Gym did before 0.26; rename the key to 'render_modes'"
        )
    if "rgb_array" not in modes:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} cannot be drawn: its metadata['render_modes'] is "
            f"{list(modes)}, and a video needs 'rgb_array'; add this mode and a render method that "
            "returns an array [height, width, 3] of bytes to the class"
        )
    if config.vectorization == "vector_entry_point":
        observation = describe_env(single).observation
        if observation != spec.observation:
            raise UnsupportedEnvironmentError(
                f"env.vectorization=vector_entry_point: {config.id!r} cannot be drawn, because its "
                f"vector class observes {spec.observation.describe()} and the single environment, "
                f"which draws, {observation.describe()}; train with env.vectorization=sync to make "
                "videos"
            )
