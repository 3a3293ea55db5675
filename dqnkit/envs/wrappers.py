"""Wrappers of `env.wrappers` around an environment."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import gymnasium
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, RecordVideo
from gymnasium.wrappers.utils import RunningMeanStd

from dqnkit._system.text import one_line
from dqnkit.config.sections import WrapperConfig
from dqnkit.envs.failures import describe_error, extra_for
from dqnkit.errors import InterruptedRun, UnsupportedEnvironmentError

Env = gymnasium.Env[Any, Any]


def apply_wrapper(env: Env, wrapper: WrapperConfig) -> Env:
    """Return an environment with one more wrapper.

    Raises:
      UnsupportedEnvironmentError: If the wrapper cannot be imported or applied.
    """
    wrapper_class = _load(wrapper)
    if isinstance(wrapper_class, type) and issubclass(wrapper_class, RecordVideo):
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} would draw every step of the training: `dqnkit render` "
            "makes a video of a trained policy instead; remove the wrapper"
        )
    try:
        wrapped = wrapper_class(env, **{k: _with_tuples(v) for k, v in wrapper.kwargs.items()})
    except InterruptedRun:
        raise
    except Exception as error:  # a wrapper's own code runs here and may raise anything
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} with {wrapper.kwargs} cannot be applied to the "
            f"environment: {describe_error(error)}{extra_for(error)}{_render_mode_for(env, error)}"
        ) from error
    if not isinstance(wrapped, gymnasium.Env):
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} returned a {type(wrapped).__name__}; it must return a "
            "gymnasium.Env"
        )
    return wrapped


def check_statistics(env: Env) -> None:
    """Check that no wrapper keeps running statistics.

    They are part of what the agent has learned, but belong to one instance of the environment:
    neither evaluation nor a checkpoint nor a saved policy would have them.

    Raises:
      UnsupportedEnvironmentError: If one does.
    """
    for layer in _layers(env):
        is_known = isinstance(layer, NormalizeObservation | NormalizeReward)
        if is_known or any(isinstance(value, RunningMeanStd) for value in vars(layer).values()):
            name = f"{type(layer).__module__}.{type(layer).__qualname__}"
            raise UnsupportedEnvironmentError(
                f"env.wrappers: {name} keeps running statistics, which neither evaluation nor a "
                "checkpoint nor the saved policy would have: remove it, or scale by constants, for "
                "example with gymnasium.wrappers.RescaleObservation or ClipReward"
            )


def changes_rewards(wrapper: WrapperConfig) -> bool:
    """Return whether a wrapper is made to change rewards: a `gymnasium.RewardWrapper`.

    Raises:
      UnsupportedEnvironmentError: If the wrapper cannot be imported.
    """
    wrapper_class = _load(wrapper)
    return isinstance(wrapper_class, type) and issubclass(wrapper_class, gymnasium.RewardWrapper)


def _load(wrapper: WrapperConfig) -> Any:
    module, _, name = wrapper.path.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path!r} cannot be imported: {type(error).__name__}: "
            f"{one_line(error)}. Give the dotted path of a class, for example "
            "gymnasium.wrappers.ClipReward"
        ) from error


def _layers(env: Env) -> Iterator[Env]:
    """Yield an environment and all that it wraps, from the outermost to the innermost."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def _render_mode_for(env: Env, error: Exception) -> str:
    """Return advice for a wrapper that needs frames of an environment that draws none."""
    if env.render_mode is None and ("render_mode" in str(error) or "render mode" in str(error)):
        return "; set env.kwargs.render_mode=rgb_array, with which the environment draws its frames"
    return ""


def _with_tuples(value: Any) -> Any:
    """Return nested lists as tuples, which YAML cannot express."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
