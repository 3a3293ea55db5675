"""Creation of Gymnasium environments from a configuration."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dqnkit._system.files import start_in_first_folder
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import packages
from dqnkit.envs.checks import CheckedEnv
from dqnkit.envs.closing import close_all, close_processes
from dqnkit.envs.failures import wrap_creation_errors
from dqnkit.envs.observations import ObservationEncoder
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.wrappers import apply_wrapper, check_statistics
from dqnkit.errors import DqnkitError, UnsupportedEnvironmentError

Env = gymnasium.Env[Any, Any]


def make_env(
    config: EnvConfig,
    render_mode: str | None = None,
) -> Env:
    """Create one environment with its wrappers, without checks of what it returns.

    Args:
      config: Configuration of the environment.
      render_mode: Gymnasium's render mode, in place of the one in `env.kwargs`.

    Raises:
      UnsupportedEnvironmentError: If the environment cannot be created.
    """
    with wrap_creation_errors(config, render_mode):
        packages.register(config.id)
        start_in_first_folder(f"{config.id} {config.kwargs}")
        kwargs = config.kwargs | ({"render_mode": render_mode} if render_mode else {})
        if kwargs.get("render_mode") is not None:
            _prepare_drawing()
        env: Env = gymnasium.make(config.id, disable_env_checker=True, **kwargs)
    try:
        for wrapper in config.wrappers:
            env = apply_wrapper(env, wrapper)
        check_statistics(env)
    except BaseException:
        with suppress(Exception):  # the environment's own code; the first error counts
            env.close()
        raise
    return env


def make_checked_env(
    config: EnvConfig,
    spec: EnvSpec,
    render_mode: str | None = None,
    label: str = "",
) -> CheckedEnv:
    """Create one environment whose results are checked, and whose observations are frames.

    Args:
      config: Configuration of the environment.
      spec: Spec of the environment, as returned by `dqnkit.envs.description.describe_env`.
      render_mode: Gymnasium's render mode, in place of the one in `env.kwargs`.
      label: Clause that tells the environment from others in messages.

    Raises:
      UnsupportedEnvironmentError: If the environment cannot be created.
    """
    return CheckedEnv(make_env(config, render_mode), spec, label)


def make_vector_env(config: EnvConfig, spec: EnvSpec, num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Create environments that step together.

    Their autoreset mode is `metadata["autoreset_mode"]` of the result. Environments of `sync` and
    `async` are `CheckedEnv`s, those of a vector class are its own.

    Args:
      config: Configuration of the environments.
      spec: Spec of one environment.
      num_envs: Number of environments.

    Raises:
      UnsupportedEnvironmentError: If the environments cannot be created.
    """
    if config.vectorization == "vector_entry_point":
        return make_vector_class(config, num_envs)
    labels = [f" (environment {i + 1} of {num_envs})" * (num_envs > 1) for i in range(num_envs)]
    makers = [partial(make_checked_env, config, spec, None, label) for label in labels]
    # SAME_STEP copies the last frame only after the reset, which is too late for an environment
    # that writes every frame into the same array.
    mode = AutoresetMode.DISABLED
    with wrap_creation_errors(config):
        if config.vectorization == "sync":
            return _make_sync(makers, mode)
        return _make_async(makers, spec, mode)


def make_vector_class(config: EnvConfig, num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Create the environment's own vector class.

    Raises:
      UnsupportedEnvironmentError: If it cannot be created.
    """
    with wrap_creation_errors(config):
        packages.register(config.id)
        return gymnasium.make_vec(
            config.id, num_envs, vectorization_mode="vector_entry_point", **config.kwargs
        )


def _prepare_drawing() -> None:
    """Keep SDL, with which Gymnasium draws, from looking for a sound device.

    Its search for a display complains on stderr unless there is a folder for it.
    """
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())


def can_live_together(config: EnvConfig, spec: EnvSpec) -> bool:
    """Return whether two instances of an environment can be made; both are closed again."""
    with ExitStack() as made:
        try:
            for _ in range(2):
                env = make_checked_env(config, spec)
                made.callback(close_all, [env.finish], config.id, config.step_timeout)
        except UnsupportedEnvironmentError:
            return False
    return True


Makers = list["partial[CheckedEnv]"]


def _make_sync(makers: Makers, mode: AutoresetMode) -> SyncVectorEnv:
    with ExitStack() as unfinished:

        def make_one(make: partial[CheckedEnv]) -> CheckedEnv:
            env = make()
            unfinished.callback(env.finish)
            return env

        envs = SyncVectorEnv(
            [partial(make_one, make) for make in makers], autoreset_mode=mode, copy=False
        )
        unfinished.pop_all()
    return envs


def _make_async(makers: Makers, spec: EnvSpec, mode: AutoresetMode) -> AsyncVectorEnv:
    before = set(multiprocessing.active_children())
    try:
        with _signals_blocked(signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            # A process forked while TensorFlow's threads run may hang.
            envs = AsyncVectorEnv(
                [_ProcessMaker(make, spec) for make in makers],
                context="spawn",
                autoreset_mode=mode,
                copy=False,
            )
    except BaseException:  # Gymnasium leaves the processes running
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    error = next((each for each in envs.call("creation_error") if each is not None), None)
    if error is not None:
        close_processes(envs, spec.id, None, is_idle=True)
        raise error
    return envs


@dataclass(frozen=True)
class _ProcessMaker:
    """Makes an environment in the process that steps it.

    Gymnasium also makes one in the parent to read its spaces. That one is never more than its
    spaces here: a second instance would take time, and some simulators allow only one.
    """

    make: partial[CheckedEnv]
    spec: EnvSpec
    parent: int = field(default_factory=os.getpid)

    def __call__(self) -> Env:
        if os.getpid() == self.parent:
            return _SpacesOnly(self.spec)
        try:
            return self.make()
        except DqnkitError as error:  # the parent raises it: here it would end in a traceback
            return _SpacesOnly(self.spec, error)


class _SpacesOnly(gymnasium.Env[Any, Any]):
    """The spaces of an environment that was not made."""

    def __init__(self, spec: EnvSpec, error: DqnkitError | None = None) -> None:
        self.observation_space = ObservationEncoder(spec.observation).frame_space
        self.action_space = spaces.Discrete(spec.num_actions, start=spec.first_action)
        self.creation_error = error

    def finish(self) -> list[str]:
        """Return no warnings: there is nothing to close."""
        return []


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
