"""Creation of Gymnasium environments from a configuration, and of their specs."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dqnkit._system.text import one_line
from dqnkit.config.sections import EnvConfig, WrapperConfig
from dqnkit.envs.failures import describe_error, extra_for, wrap_creation_errors
from dqnkit.envs.specs import EnvSpec, ObservationKind, ObservationSpec
from dqnkit.errors import UnsupportedEnvironmentError

Env = gymnasium.Env[Any, Any]

_REGISTERED_BY = {"ALE": "ale_py", "MinAtar": "minatar"}
"""Modules that register the ids of a namespace."""

_MAX_CHOICES = 2**20
"""Limit on the values of a discrete space; a dense layer has weights for each of them."""


def make_env(
    config: EnvConfig,
    wrappers: Sequence[WrapperConfig] | None = None,
    render_mode: str | None = None,
) -> Env:
    """Create one environment with its wrappers.

    Nested observations, and arrays that are not images, are flattened into vectors.

    Args:
      config: Configuration of the environment.
      wrappers: Wrappers that replace those of the configuration.
      render_mode: Gymnasium's render mode; None renders nothing.

    Raises:
      UnsupportedEnvironmentError: If the environment cannot be created.
    """
    with wrap_creation_errors(config):
        _register(config.id)
        kwargs = config.kwargs | ({"render_mode": render_mode} if render_mode else {})
        env: Env = gymnasium.make(config.id, disable_env_checker=True, **kwargs)
    try:
        for wrapper in config.wrappers if wrappers is None else wrappers:
            env = _apply_wrapper(env, wrapper)
        with wrap_creation_errors(config):
            if _needs_flattening(env.observation_space):
                env = gymnasium.wrappers.FlattenObservation(env)
    except BaseException:
        env.close()
        raise
    return env


def make_vector_env(
    config: EnvConfig, num_envs: int, wrappers: Sequence[WrapperConfig] | None = None
) -> VectorEnv[Any, Any, Any]:
    """Create environments that step together.

    Their autoreset mode is `metadata["autoreset_mode"]` of the result.

    Args:
      config: Configuration of the environments.
      num_envs: Number of environments.
      wrappers: Wrappers that replace those of the configuration.

    Raises:
      UnsupportedEnvironmentError: If the environments cannot be created.
    """
    if config.vectorization == "vector_entry_point":
        with wrap_creation_errors(config):
            _register(config.id)
            return gymnasium.make_vec(
                config.id, num_envs, vectorization_mode="vector_entry_point", **config.kwargs
            )
    makers = [partial(make_env, config, wrappers)] * num_envs
    # SAME_STEP copies the last frame only after the reset, which is too late for an environment
    # that writes every frame into the same array.
    mode = AutoresetMode.DISABLED
    with wrap_creation_errors(config):
        if config.vectorization == "sync":
            return SyncVectorEnv(makers, autoreset_mode=mode, copy=False)
        with _signals_blocked(signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            # A process forked while TensorFlow's threads run may hang.
            return AsyncVectorEnv(makers, context="spawn", autoreset_mode=mode, copy=False)


@contextmanager
def _signals_blocked(*signals: signal.Signals) -> Iterator[None]:
    """Block signals in this thread, and permanently in the processes that it starts.

    Ctrl-C in a terminal, and any other signal to the process group, reaches the processes of the
    environments too, but only their parent may end them.
    """
    resource_tracker.ensure_running()  # starting it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def describe_env(config: EnvConfig) -> EnvSpec:
    """Create the environment once and return the spec of its spaces.

    Raises:
      UnsupportedEnvironmentError: If the environment cannot be created, or if a DQN cannot use
        its observation space or its action space.
    """
    kwargs = {"desc": None, "map_name": "4x4"} | config.kwargs
    if config.id.startswith("FrozenLake") and kwargs["desc"] is kwargs["map_name"] is None:
        raise UnsupportedEnvironmentError(
            "env.kwargs.map_name=null: each environment would generate a random map of its own, "
            "without a seed; name a map, or give one in env.kwargs.desc"
        )
    if config.vectorization == "vector_entry_point":
        vector = make_vector_env(config, 1)
        observations, actions = vector.single_observation_space, vector.single_action_space
        vector.close()
    else:
        env = make_env(config)
        with wrap_creation_errors(config):
            observations, actions = env.observation_space, env.action_space
        env.close()
    if not isinstance(actions, spaces.Discrete):
        raise UnsupportedEnvironmentError(
            f"env.id: the action space of {config.id!r} is {one_line(actions)}; a DQN needs a "
            "Discrete space: choose another environment, or discretize the actions by a wrapper "
            "in env.wrappers"
        )
    observation = _observation_spec(observations, config)
    choices = max(int(actions.n), observation.num_values)
    if choices > _MAX_CHOICES:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} has a Discrete space of {choices:,} values; the network needs "
            f"weights for each of them, and at most {_MAX_CHOICES:,} are supported: encode them by "
            "a wrapper in env.wrappers"
        )
    return EnvSpec(config.id, observation, int(actions.n), int(actions.start))


def _observation_spec(space: spaces.Space[Any], config: EnvConfig) -> ObservationSpec:
    stack = config.frame_stack
    if isinstance(space, spaces.Discrete):
        return ObservationSpec(
            ObservationKind.DISCRETE,
            (),
            "int64",
            stack,
            num_values=int(space.n),
            first_value=int(space.start),
        )
    if not isinstance(space, spaces.Box):
        raise UnsupportedEnvironmentError(
            f"env.id: the observation space of {config.id!r} is {one_line(space)}; a DQN needs a "
            "Box, a Discrete, or a Dict or Tuple that Gymnasium can flatten: convert the "
            "observations by a wrapper in env.wrappers"
        )
    if 0 in space.shape:
        raise UnsupportedEnvironmentError(
            f"env.id: the observation space of {config.id!r} is {one_line(space)}, which contains "
            "no numbers: there is nothing to learn from"
        )
    kind = ObservationKind.IMAGE if _is_image(space) else ObservationKind.VECTOR
    dtype = space.dtype.name if space.dtype.name in {"uint8", "int8", "bool"} else "float32"
    return ObservationSpec(
        kind, space.shape, dtype, stack, low=float(space.low.min()), high=float(space.high.max())
    )


def _is_image(space: spaces.Space[Any]) -> bool:
    """Return whether a space has three axes, or two and bytes: an image without channels."""
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype.name == "uint8")


def _needs_flattening(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Discrete) or _is_image(space) or not space.is_np_flattenable:
        return False
    return not isinstance(space, spaces.Box) or len(space.shape) != 1


def _register(env_id: str) -> None:
    """Import the package that registers an id's namespace, such as ALE of `ALE/Pong-v5`."""
    namespace, slash, _ = env_id.partition("/")
    if not slash or namespace not in _REGISTERED_BY:
        return
    if any(spec.namespace == namespace for spec in gymnasium.registry.values()):
        return
    if namespace == "ALE":
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner on stderr
        gymnasium.register_envs(ale_py)
    else:
        importlib.import_module("minatar.gym").register_envs()


def _apply_wrapper(env: Env, wrapper: WrapperConfig) -> Env:
    module, _, name = wrapper.path.replace(":", ".").rpartition(".")
    try:
        wrapper_class = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path!r} cannot be imported: {type(error).__name__}: "
            f"{one_line(error)}. Give the dotted path of a class, for example "
            "gymnasium.wrappers.ClipReward"
        ) from error
    try:
        wrapped = wrapper_class(env, **{k: _with_tuples(v) for k, v in wrapper.kwargs.items()})
    except Exception as error:  # a wrapper's own code runs here and may raise anything
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} with {wrapper.kwargs} cannot be applied to the "
            f"environment: {describe_error(error)}{extra_for(error)}"
        ) from error
    if not isinstance(wrapped, gymnasium.Env):
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} returned a {type(wrapped).__name__}; it must return a "
            "gymnasium.Env"
        )
    return wrapped


def _with_tuples(value: Any) -> Any:
    """Return nested lists as tuples, which YAML cannot express."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
