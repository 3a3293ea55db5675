"""Closing of environments, which may raise, hang, or run in other processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

from gymnasium.vector import AsyncVectorEnv

from dqnkit.envs.checks import close_problem
from dqnkit.envs.failures import ENVIRONMENT_EXCEPTIONS
from dqnkit.envs.watchdog import Watchdog
from dqnkit.errors import EnvironmentFailedError

_MAX_SECONDS = 10.0
"""Time that closing may take, if `env.step_timeout` is not shorter. A finished run waits for it."""
_BUSY_SECONDS = 1.0
"""Time for processes that are in the middle of a step."""


def close_limit(step_timeout: float | None) -> float:
    """Return the number of seconds that closing may take."""
    return min(step_timeout or _MAX_SECONDS, _MAX_SECONDS)


def close_all(
    closers: list[Callable[[], list[str]]], env_id: str, step_timeout: float | None
) -> list[str]:
    """Close environments of this process, within a time limit for all of them.

    Args:
      closers: Functions that close an environment and return warnings.
      env_id: Id of the environments, for messages.
      step_timeout: Value of `env.step_timeout`.

    Returns:
      Warnings, one for each environment that raised an exception or took too long.
    """
    limit = close_limit(step_timeout)
    watchdog = Watchdog(limit, env_id, _hang_error, heeds_interrupts=False)
    warnings: list[str] = []
    try:
        with watchdog:
            for close in closers:
                try:
                    warnings += close()
                except ENVIRONMENT_EXCEPTIONS as error:  # of the environment's own code
                    warnings.append(close_problem(repr(env_id), error))
    except EnvironmentFailedError as error:  # the watchdog repeats its signal, here between two
        warnings.append(close_problem(repr(env_id), error))
    finally:
        watchdog.close()
    return warnings


def close_processes(
    envs: AsyncVectorEnv, env_id: str, step_timeout: float | None, *, is_idle: bool
) -> list[str]:
    """Close environments in processes of their own, and kill what is left after a time limit.

    Args:
      envs: The environments, each a `CheckedEnv`.
      env_id: Id of the environments, for messages.
      step_timeout: Value of `env.step_timeout`.
      is_idle: False if the last call into the environments did not return.

    Returns:
      Warnings, one for each environment that raised an exception or took too long.
    """
    limit = close_limit(step_timeout)
    warnings: list[str] = []
    if is_idle:
        try:
            # If a process has died, nothing is left to close in it.
            with contextlib.suppress(EOFError, OSError):
                envs.call_async("finish")
                warnings = [text for each in envs.call_wait(timeout=limit) for text in each]
        except multiprocessing.TimeoutError:
            warnings.append(close_problem(repr(env_id), _hang_error(env_id, limit)))
    deadline = time.monotonic() + (limit if is_idle and not warnings else _BUSY_SECONDS)
    for pipe in envs.parent_pipes:
        with contextlib.suppress(OSError, AttributeError):  # gone with its process
            pipe.send(("close", None))
    for process in envs.processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in envs.processes:
        process.kill()
        process.join()
    for pipe in envs.parent_pipes:
        if pipe is not None:
            pipe.close()
    # Gymnasium would otherwise close them again when it deletes the object, and print a traceback.
    envs.closed = True
    return warnings


def _hang_error(env_id: str, seconds: float | None) -> EnvironmentFailedError:
    del env_id
    return EnvironmentFailedError(f"it took longer than {seconds or 0:g} seconds")


def closer(env: Any) -> Callable[[], list[str]]:
    """Return a function that closes an environment without checks of its own."""

    def close() -> list[str]:
        env.close()
        return []

    return close
