"""What is said when Gymnasium, or an environment's own code, raises while it is made."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium

from dqnkit._system.text import one_line
from dqnkit.config.sections import EnvConfig
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError

_EXTRAS = {"ale_py": "atari", "cv2": "atari", "opencv": "atari", "minatar": "minatar"} | {
    "box2d": "box2d",
    "swig": "box2d",
}
"""Our extra that brings a package which a message of Gymnasium's names."""
_PACKAGES = {
    "atari": "ale-py opencv-python-headless",
    "box2d": "'gymnasium[box2d]'",
    "minatar": "minatar",
}
"""What an extra brings, as `pyproject.toml` says."""


@contextmanager
def wrap_creation_errors(config: EnvConfig) -> Iterator[None]:
    """Silences Gymnasium's advice, and turns what it raises into our error."""
    level = logging.getLogger().level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnsupportedEnvironmentError:
        raise
    except Exception as error:  # an environment's own code runs here, and raises what it likes
        raise UnsupportedEnvironmentError(_failure(config, error)) from error
    finally:
        logging.getLogger().setLevel(level)


def _failure(config: EnvConfig, error: Exception) -> str:
    missing = extra_for(error)
    if missing:
        return f"env.id: {config.id!r} needs a package that is not installed{missing}"
    hint = ""
    if isinstance(error, gymnasium.error.UnregisteredEnv):
        nearest = difflib.get_close_matches(config.id, gymnasium.registry, n=1)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    if "entry_point is not specified" in str(error):
        hint = " (it has only a vector class: take env.vectorization=vector_entry_point)"
    kwargs = f" with {config.kwargs}" if config.kwargs else ""
    return (
        f"env.id: Gymnasium cannot make {config.id!r}{hint}{kwargs}: "
        f"{type(error).__name__}: {one_line(error)}"
    )


def extra_for(error: Exception) -> str:
    """How to install what an error misses, if one of our extras has it."""
    if not isinstance(error, ImportError | gymnasium.error.DependencyNotInstalled):
        return ""
    text = f"{getattr(error, 'name', '') or ''} {error}".lower()
    extra = next((extra for package, extra in _EXTRAS.items() if package in text), None)
    if extra is None:
        return f": {one_line(error)}"
    return (
        f": install the extra {extra!r}, in a checkout by `uv sync --extra {extra}` (or `uv run "
        f"--extra {extra} dqnkit …` for one command), elsewhere by `pip install "
        f"{_PACKAGES[extra]}`"
    )


@contextmanager
def wrap_env_errors(env_id: str, call: str) -> Iterator[None]:
    """What the environment's own code raises is its fault, and named as that."""
    try:
        yield
    except EnvironmentFailedError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentFailedError(
            f"{env_id!r} failed in {call}: {type(error).__name__}: {one_line(error)}; mend "
            "the environment, or its env.kwargs and env.wrappers (--traceback shows where)"
        ) from error
