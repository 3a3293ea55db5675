"""Description of an environment by the spec of its spaces."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dqnkit._system.text import one_line
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import factory
from dqnkit.envs.closing import close_all, closer
from dqnkit.envs.failures import wrap_creation_errors
from dqnkit.envs.observations import (
    UnsupportedSpaceError,
    array_specs,
    has_certain_channels,
)
from dqnkit.envs.specs import ArraySpec, EnvSpec, ObservationSpec
from dqnkit.errors import ConfigError, UnsupportedEnvironmentError

_MAX_CHOICES = 2**20
"""Limit on the values of a discrete space; a dense layer has weights for each of them."""


def describe_env(config: EnvConfig) -> EnvSpec:
    """Create the environment once, close it, and return the spec of its spaces.

    Args:
      config: Configuration of the environment.

    Raises:
      ConfigError: If `env.channels` is set and no observation has three axes.
      UnsupportedEnvironmentError: If the environment cannot be created, or if a DQN cannot use
        its observation space or its action space.
    """
    _check_map(config)
    observations, actions = _read_spaces(config)
    if not isinstance(actions, spaces.Discrete):
        raise UnsupportedEnvironmentError(
            f"env.id: the action space of {config.id!r} is {_described(actions)}; a DQN needs a "
            "Discrete space: choose another environment, or discretize the actions by a wrapper "
            "in env.wrappers"
        )
    observation = _observation_spec(observations, config)
    choices = max([int(actions.n), *(sum(array.num_values) for array in observation.arrays)])
    if choices > _MAX_CHOICES:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} has a discrete space of {choices:,} values; the network needs "
            f"weights for each of them, and at most {_MAX_CHOICES:,} are supported: encode them by "
            "a wrapper in env.wrappers"
        )
    return EnvSpec(config.id, observation, int(actions.n), int(actions.start))


def channel_axis(spec: ObservationSpec) -> str | None:
    """Return where the channels of images with three axes stand: `first` or `last`.

    The result is None if there are no such images, or if they differ.
    """
    axes = {array.channels_first for array in _with_three_axes(spec)}
    return ("first" if axes.pop() else "last") if len(axes) == 1 else None


def uncertain_images(spec: ObservationSpec) -> list[ArraySpec]:
    """Return the images whose shapes leave a doubt about the axis of their channels."""
    return [array for array in spec.images if not has_certain_channels(array.shape)]


def _with_three_axes(spec: ObservationSpec) -> list[ArraySpec]:
    return [array for array in spec.images if len(array.shape) == 3]


def _check_map(config: EnvConfig) -> None:
    kwargs = {"desc": None, "map_name": "4x4"} | config.kwargs
    if config.id.startswith("FrozenLake") and kwargs["desc"] is kwargs["map_name"] is None:
        raise UnsupportedEnvironmentError(
            "env.kwargs.map_name=null: each environment would generate a random map of its own, "
            "without a seed; name a map, or give one in env.kwargs.desc"
        )


def _read_spaces(config: EnvConfig) -> tuple[Any, Any]:
    """Return the spaces of observations and of actions."""
    env: Any
    if config.vectorization == "vector_entry_point":
        env = factory.make_vector_class(config, 1)
        names = ("single_observation_space", "single_action_space")
    else:
        env = factory.make_env(config)
        names = ("observation_space", "action_space")
    try:
        with wrap_creation_errors(config):
            return getattr(env, names[0]), getattr(env, names[1])
    finally:
        # Training closes its own environments and reports what goes wrong.
        close_all([closer(env)], config.id, config.step_timeout)


def _observation_spec(space: Any, config: EnvConfig) -> ObservationSpec:
    try:
        arrays = array_specs(space, config.channels)
    except UnsupportedSpaceError as error:
        raise UnsupportedEnvironmentError(_space_problem(config, space, error)) from None
    if not arrays:
        raise UnsupportedEnvironmentError(
            f"env.id: the observation space of {config.id!r} is {one_line(space)}, which contains "
            "no numbers: there is nothing to learn from"
        )
    spec = ObservationSpec(arrays, config.frame_stack)
    if config.channels != "auto" and not _with_three_axes(spec):
        raise ConfigError(
            f"env.channels={config.channels}: the observations of {config.id!r} are "
            f"{spec.describe()}, and only images with three axes have channels; set it to auto"
        )
    return spec


def _space_problem(config: EnvConfig, space: Any, error: UnsupportedSpaceError) -> str:
    start = f"env.id: the observation space of {config.id!r} "
    if error.path:
        name = ".".join(map(str, error.path))
        start += f"has the entry {name!r}, which is {_described(error.space)}"
    else:
        start += f"is {_described(space)}"
    advice = "convert the observations by a wrapper in env.wrappers"
    if "minigrid" in type(error.space).__module__:
        advice = (
            "leave the text out by minigrid.wrappers.ImgObsWrapper, or by "
            "minigrid.wrappers.FlatObsWrapper, in env.wrappers"
        )
    elif error.path:
        advice = f"leave it out, or {advice}, such as gymnasium.wrappers.FilterObservation"
    return (
        f"{start}; a DQN needs numbers: Box, Discrete, MultiDiscrete, MultiBinary, or Dict and "
        f"Tuple of these: {advice}"
    )


def _described(space: Any) -> str:
    """Return a space, with its package if that is not Gymnasium."""
    package = type(space).__module__.partition(".")[0]
    if isinstance(space, spaces.Space):
        return one_line(space)
    if package == "gym":
        return (
            f"{one_line(space)} of the package gym, and not of gymnasium: make the environment's "
            "spaces with gymnasium.spaces, or convert the environment by Shimmy"
        )
    return f"{one_line(repr(space))}, an object of {package!r} and not a gymnasium.spaces.Space"
