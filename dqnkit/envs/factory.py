"""Gymnasium environments from a configuration: made, wrapped, vectorised and described."""

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
from dqnkit.envs.failures import extra_for, wrap_creation_errors
from dqnkit.envs.specs import EnvSpec, Kind, ObservationSpec
from dqnkit.errors import UnsupportedEnvironmentError

Env = gymnasium.Env[Any, Any]

_REGISTERED_BY = {"ALE": "ale_py", "MinAtar": "minatar"}
"""Modules that register an id's namespace when they are imported or asked to."""

_MAX_CHOICES = 2**20
"""Values of a discrete space; a dense layer has a weight for each."""


def make_env(
    config: EnvConfig,
    wrappers: Sequence[WrapperConfig] | None = None,
    render_mode: str | None = None,
) -> Env:
    """One environment with its wrappers, and observations flattened where they are nested.

    Args:
      config: The environment.
      wrappers: In place of the configuration's.
      render_mode: Gymnasium's; nothing is drawn without.

    Raises:
      UnsupportedEnvironmentError: It cannot be made; the message says what to do.
    """
    with wrap_creation_errors(config):
        _register(config.id)
        kwargs = config.kwargs | ({"render_mode": render_mode} if render_mode else {})
        env: Env = gymnasium.make(config.id, disable_env_checker=True, **kwargs)
    try:
        for wrapper in config.wrappers if wrappers is None else wrappers:
            env = _wrapped(env, wrapper)
        with wrap_creation_errors(config):
            if _is_flattened(env.observation_space):
                env = gymnasium.wrappers.FlattenObservation(env)
    except BaseException:
        env.close()
        raise
    return env


def make_vector_env(
    config: EnvConfig, num_envs: int, wrappers: Sequence[WrapperConfig] | None = None
) -> VectorEnv[Any, Any, Any]:
    """Environments that step together; `metadata["autoreset_mode"]` says how they start anew.

    Raises:
      UnsupportedEnvironmentError: They cannot be made; the message says what to do.
    """
    if config.vectorization == "vector_entry_point":
        with wrap_creation_errors(config):
            _register(config.id)
            return gymnasium.make_vec(
                config.id, num_envs, vectorization_mode="vector_entry_point", **config.kwargs
            )
    makers = [partial(make_env, config, wrappers)] * num_envs
    # In SAME_STEP mode the reset comes before the last frame is copied, and an environment may
    # write each frame over the one before.
    mode = AutoresetMode.DISABLED
    with wrap_creation_errors(config):
        if config.vectorization == "sync":
            return SyncVectorEnv(makers, autoreset_mode=mode, copy=False)
        with _blocked(signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            # A fork of a process that runs TensorFlow's threads may hang.
            return AsyncVectorEnv(makers, context="spawn", autoreset_mode=mode, copy=False)


@contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Keeps signals from this thread, and for ever from the processes that it starts.

    A Ctrl-C in the terminal reaches all of them, as does what ends a whole group of processes, and
    it is their parent that ends them.
    """
    resource_tracker.ensure_running()  # its start unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def describe_env(config: EnvConfig) -> EnvSpec:
    """Makes the environment once and looks at its spaces.

    Raises:
      UnsupportedEnvironmentError: It cannot be made, or a space is not one that a DQN can use.
    """
    kwargs = {"desc": None, "map_name": "4x4"} | config.kwargs
    if config.id.startswith("FrozenLake") and kwargs["desc"] is kwargs["map_name"] is None:
        raise UnsupportedEnvironmentError(
            "env.kwargs.map_name=null draws a new map for each environment, from no seed; name a "
            "map, or give one in env.kwargs.desc"
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
            f"env.id: the actions of {config.id!r} are {one_line(actions)}; a DQN needs a "
            "Discrete space: choose an environment with discrete actions, or wrap this one"
        )
    observation = _observation_spec(observations, config)
    choices = max(int(actions.n), observation.num_values)
    if choices > _MAX_CHOICES:
        raise UnsupportedEnvironmentError(
            f"env.id: {config.id!r} has a Discrete space of {choices:,} values; a DQN has a weight "
            f"for each of them, and takes at most {_MAX_CHOICES:,}: encode them by env.wrappers"
        )
    return EnvSpec(config.id, observation, int(actions.n), int(actions.start))


def _observation_spec(space: spaces.Space[Any], config: EnvConfig) -> ObservationSpec:
    stack = config.frame_stack
    if isinstance(space, spaces.Discrete):
        return ObservationSpec(
            Kind.DISCRETE, (), "int64", stack, num_values=int(space.n), first_value=int(space.start)
        )
    if not isinstance(space, spaces.Box):
        raise UnsupportedEnvironmentError(
            f"env.id: the observations of {config.id!r} are {one_line(space)}; a DQN needs a Box, "
            "a Discrete, or a Dict or Tuple that Gymnasium can flatten: put a wrapper that gives "
            "one into env.wrappers"
        )
    if 0 in space.shape:
        raise UnsupportedEnvironmentError(
            f"env.id: the observations of {config.id!r} are {one_line(space)}, which holds no "
            "number: there is nothing to learn from"
        )
    kind = Kind.IMAGE if _is_image(space) else Kind.VECTOR
    dtype = space.dtype.name if space.dtype.name in {"uint8", "int8", "bool"} else "float32"
    return ObservationSpec(
        kind, space.shape, dtype, stack, low=float(space.low.min()), high=float(space.high.max())
    )


def _is_image(space: spaces.Space[Any]) -> bool:
    """Three axes, or two of bytes: a picture without an axis of channels."""
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype.name == "uint8")


def _is_flattened(space: spaces.Space[Any]) -> bool:
    if isinstance(space, spaces.Discrete) or _is_image(space) or not space.is_np_flattenable:
        return False
    return not isinstance(space, spaces.Box) or len(space.shape) != 1


def _register(env_id: str) -> None:
    """Imports what registers an id's namespace (`ALE/Pong-v5`), which Gymnasium leaves to us."""
    namespace, slash, _ = env_id.partition("/")
    if not slash or namespace not in _REGISTERED_BY:
        return
    if any(spec.namespace == namespace for spec in gymnasium.registry.values()):
        return
    if namespace == "ALE":
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # it introduces itself
        gymnasium.register_envs(ale_py)
    else:
        importlib.import_module("minatar.gym").register_envs()


def _wrapped(env: Env, wrapper: WrapperConfig) -> Env:
    module, _, name = wrapper.path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UnsupportedEnvironmentError(
            f"env.wrappers: there is no {wrapper.path!r}: {type(error).__name__}: "
            f"{one_line(error)}. Give the dotted path of a class, for example "
            "gymnasium.wrappers.ClipReward"
        ) from error
    try:
        wrapped = found(env, **{k: _with_tuples(v) for k, v in wrapper.kwargs.items()})
    except Exception as error:  # whatever a wrapper raises, its arguments are the user's
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} with {wrapper.kwargs} cannot be put around the "
            f"environment: {type(error).__name__}: {one_line(error)}{extra_for(error)}"
        ) from error
    if not isinstance(wrapped, gymnasium.Env):
        raise UnsupportedEnvironmentError(
            f"env.wrappers: {wrapper.path} gives a {type(wrapped).__name__}; it must give a "
            "gymnasium.Env"
        )
    return wrapped


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
