"""Conversion of exceptions of Gymnasium and of environments into errors of dqnkit."""

from __future__ import annotations

import asyncio
import difflib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium

from dqnkit._system.text import one_line
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import packages
from dqnkit.errors import (
    DqnkitError,
    EnvironmentFailedError,
    InterruptedRun,
    UnsupportedEnvironmentError,
)

_EXTRAS = {"ale_py": "atari", "cv2": "atari", "minatar": "minatar", "Box2D": "box2d"}
"""Extras of dqnkit, by the top-level module that they install."""
_PACKAGES = {
    "atari": "ale-py opencv-python-headless",
    "box2d": "'gymnasium[box2d]'",
    "minatar": "minatar",
}
"""Packages of each extra, as in `pyproject.toml`."""


_made: set[str] = set()
"""Environments of which this process has made an instance."""
ENVIRONMENT_EXCEPTIONS = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
"""Exceptions of an environment's own code: all but KeyboardInterrupt."""
OLD_API = (
    "this is the interface of Gym before 0.26: return observation and info from reset(seed, "
    "options), and observation, reward, terminated, truncated and info from step, or convert the "
    "environment by Shimmy (https://shimmy.farama.org)"
)
"""Advice for environments that were written for old versions of Gym."""


@contextmanager
def wrap_creation_errors(config: EnvConfig, render_mode: str | None = None) -> Iterator[None]:
    """Raise any exception as `UnsupportedEnvironmentError`, and ignore warnings of Gymnasium.

    Args:
      config: Configuration of the environment that is created in the body, for messages.
      render_mode: Render mode of the environment.
    """
    identity = repr((config.id, config.kwargs, render_mode))
    level = logging.getLogger().level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        _made.add(identity)
    except (UnsupportedEnvironmentError, InterruptedRun):
        raise
    except ENVIRONMENT_EXCEPTIONS as error:  # of the environment's own code
        message = _creation_message(config, error, is_another=identity in _made)
        raise UnsupportedEnvironmentError(message) from error
    finally:
        logging.getLogger().setLevel(level)


def _creation_message(config: EnvConfig, error: BaseException, *, is_another: bool) -> str:
    family = packages.advice_for(config.id)
    if _missing_module(error) is not None:
        advice = extra_for(error) or f": {family or one_line(error)}"
        return f"env.id: {config.id!r} needs a package that is not installed{advice}"
    hint = ""
    if isinstance(error, gymnasium.error.UnregisteredEnv) and family is not None:
        return f"env.id: Gymnasium knows no environment {config.id!r}: {family}"
    if isinstance(error, gymnasium.error.UnregisteredEnv):
        nearest = difflib.get_close_matches(config.id, gymnasium.registry, n=1)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    if "entry_point is not specified" in str(error):
        hint = " (it has only a vector class: set env.vectorization=vector_entry_point)"
    kwargs = f" with {config.kwargs}" if config.kwargs else ""
    advice = ""
    if re.search(r"unexpected keyword argument 'render_mode'", str(error)):
        advice = (
            "; let its __init__ take render_mode=None, and keep it as self.render_mode, to draw it"
        )
    elif is_another:
        advice = (
            "; an earlier instance could be made in this process, so perhaps only one can live at "
            "a time, or close does not release what the next one needs"
        )
    problem = f"cannot create {config.id!r}{hint}{kwargs}: {describe_error(error)}"
    return f"env.id: Gymnasium {problem}{advice}"


def describe_error(error: BaseException) -> str:
    """Return the class and the text of an exception on one line.

    Gymnasium raises `DependencyNotInstalled` for every `ImportError`, also if the package is
    installed and fails to load, for example because of a missing shared library. In that case the
    `ImportError` is described instead.
    """
    cause = error.__cause__
    if (
        isinstance(error, gymnasium.error.DependencyNotInstalled)
        and isinstance(cause, ImportError)
        and _missing_module(cause) is None
    ):
        return describe_error(cause)
    # Gymnasium raises the exceptions of other processes as their own argument.
    if len(error.args) == 1 and isinstance(error.args[0], type(error)):
        return describe_error(error.args[0])
    name, text = type(error).__name__, one_line(error)
    return name if text in {"", name} else f"{name}: {text}"


def extra_for(error: BaseException) -> str:
    """Return how to install a missing module, to be appended to a message.

    The result is empty if the exception does not report a missing module, or if no extra of dqnkit
    installs the module.
    """
    extra = _EXTRAS.get(_missing_module(error) or "")
    if extra is None:
        return ""
    return f": {packages.install(_PACKAGES[extra], extra)}"


def _missing_module(error: BaseException | None) -> str | None:
    """Return the name of the module that an exception reports as missing, "" if it is unknown.

    The result is None for exceptions with any other reason.
    """
    if isinstance(error, gymnasium.error.DependencyNotInstalled):
        return _missing_module(error.__cause__)
    if not isinstance(error, ModuleNotFoundError):
        return None
    # For an id such as `module:Id`, Gymnasium raises the error again without the module's name.
    return error.name or _missing_module(error.__cause__) or ""


@contextmanager
def wrap_env_errors(env_id: str, call: str) -> Iterator[None]:
    """Raise any of `ENVIRONMENT_EXCEPTIONS` as `EnvironmentFailedError`.

    Args:
      env_id: Id of the environment whose code runs in the body, for messages.
      call: Name of the method that is called in the body, for messages.
    """
    try:
        yield
    except DqnkitError:
        raise
    except ENVIRONMENT_EXCEPTIONS as error:
        raise call_failure(repr(env_id), call, error) from error


def call_failure(name: str, call: str, error: BaseException) -> EnvironmentFailedError:
    """Return the error of a call into an environment that has raised an exception.

    Args:
      name: Name of the environment, quoted.
      call: Name of the method, perhaps with the step.
      error: The exception.
    """
    problem = f"{name} failed in {call}: {describe_error(error)}"
    advice = "fix the environment, or its env.kwargs and env.wrappers"
    # Wrappers unpack what `reset` and `step` return, and pass `seed` on.
    if re.search(r"values to unpack|unexpected keyword argument 'seed'", str(error)):
        advice = OLD_API
    return EnvironmentFailedError(f"{problem}; {advice}")
