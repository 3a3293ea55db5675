from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.factory import make_env
from dqnkit.envs.failures import describe_error, extra_for, wrap_creation_errors, wrap_env_errors
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError

NO_LIBRARY = "libGL.so.1: cannot open shared object file"
CORRIDOR = EnvConfig(id="tests.environments:Corridor-v0")
RESIZED = CORRIDOR.model_copy(
    update={
        "kwargs": {"observe": "image"},
        "wrappers": EnvConfig.model_validate(
            {"wrappers": [{"gymnasium.wrappers.ResizeObservation": {"shape": [4, 4]}}]}
        ).wrappers,
    }
)

PACKAGES = {
    "ale_py": (EnvConfig(id="ALE/Pong-v5"), "atari"),
    "Box2D": (EnvConfig(id="LunarLander-v3"), "box2d"),
    "minatar": (EnvConfig(id="MinAtar/Breakout-v1"), "minatar"),
    "cv2": (RESIZED, "atari"),
}
"""Environments by the package that they need, and the extra that installs it."""

each_package = pytest.mark.parametrize("package", PACKAGES)


def _forget(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes imports and registrations of a package by earlier tests."""
    for module in [name for name in sys.modules if package.lower() in name.lower()]:
        monkeypatch.delitem(sys.modules, module)
    for env_id, spec in list(gymnasium.registry.items()):
        if spec.namespace in {"ALE", "MinAtar"}:
            monkeypatch.delitem(gymnasium.registry, env_id)


def _hide(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes imports of a package fail as if it were not installed."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    _forget(package, monkeypatch)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])


def _creation_error(config: EnvConfig) -> str:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        make_env(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _wrapped(error: Exception, config: EnvConfig = CORRIDOR) -> str:
    with pytest.raises(UnsupportedEnvironmentError) as caught, wrap_creation_errors(config):
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


def _dependency_error(cause: Exception | None) -> Exception:
    error = gymnasium.error.DependencyNotInstalled("Box2D is not installed, run `pip install …`")
    error.__cause__ = cause
    return error


@each_package
def test_a_missing_package_names_the_extra_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, extra = PACKAGES[package]
    _hide(package, monkeypatch)
    message = _creation_error(config)
    assert f"install the extra {extra!r}" in message
    assert f"uv sync --extra {extra}`" in message


@each_package
@pytest.mark.parametrize("name", [None, "of the module"])
def test_an_installed_package_that_breaks_on_import_shows_its_own_error(
    package: str, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = PACKAGES[package]
    _forget(package, monkeypatch)
    (tmp_path / package).mkdir()
    argument = "" if name is None else ", name=f'{__name__}._native'"
    (tmp_path / package / "__init__.py").write_text(f"raise ImportError({NO_LIBRARY!r}{argument})")
    monkeypatch.syspath_prepend(tmp_path)
    message = _creation_error(config)
    assert f"ImportError: {NO_LIBRARY}" in message
    assert "not installed" not in message
    assert "install the extra" not in message


def test_a_missing_package_without_an_extra_is_named() -> None:
    message = _creation_error(EnvConfig(id="no_such_package:Thing-v0"))
    assert "needs a package that is not installed: No module named 'no_such_package'" in message
    assert "extra" not in message


def test_a_missing_package_that_gymnasium_imports_by_the_id_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _hide("ale_py", monkeypatch)
    assert "install the extra 'atari'" in _creation_error(EnvConfig(id="ale_py:Pong-v5"))


@pytest.mark.parametrize(
    ("error", "extra"),
    [
        (ModuleNotFoundError("No module named 'ale_py'", name="ale_py"), "atari"),
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "atari"),
        (ModuleNotFoundError("No module named 'Box2D'", name="Box2D"), "box2d"),
        (_dependency_error(ModuleNotFoundError("No module", name="Box2D")), "box2d"),
        (ModuleNotFoundError("No module named 'jax'", name="jax"), None),
        # A missing submodule: the package itself is installed.
        (ModuleNotFoundError("No module named 'ale_py.v9'", name="ale_py.v9"), None),
        (ImportError("cannot import name 'b2' from 'Box2D'", name="Box2D"), None),
        (_dependency_error(ImportError(NO_LIBRARY, name="Box2D._Box2D")), None),
        (_dependency_error(None), None),
        (OSError("ale_py: no such file"), None),
    ],
)
def test_only_a_missing_module_is_answered_by_an_extra(error: Exception, extra: str | None) -> None:
    advice = extra_for(error)
    assert (f"install the extra {extra!r}" in advice) == (extra is not None)
    assert bool(advice) == (extra is not None)


def test_gymnasiums_own_advice_on_a_package_without_an_extra_is_kept() -> None:
    error = gymnasium.error.DependencyNotInstalled("MuJoCo is not installed, run `pip install …`")
    error.__cause__ = ModuleNotFoundError("No module named 'mujoco'", name="mujoco")
    assert _wrapped(error) == (
        f"env.id: {CORRIDOR.id!r} needs a package that is not installed: MuJoCo is not installed, "
        "run `pip install …`"
    )


def test_a_dependency_error_without_a_cause_is_shown_as_it_is() -> None:
    message = _wrapped(_dependency_error(None))
    assert "cannot create" in message
    assert "DependencyNotInstalled: Box2D is not installed, run `pip install …`" in message


def test_an_unregistered_id_names_the_nearest_registered_one() -> None:
    error = gymnasium.error.NameNotFound("Environment `CartPol` doesn't exist.")
    message = _wrapped(error, EnvConfig(id="CartPol-v1"))
    assert "cannot create 'CartPol-v1' (did you mean 'CartPole-v1'?): NameNotFound: " in message


def test_an_unregistered_id_unlike_any_other_has_no_suggestion() -> None:
    message = _wrapped(gymnasium.error.NameNotFound("no"), EnvConfig(id="§§§§"))
    assert "did you mean" not in message


def test_an_id_with_a_vector_class_alone_names_the_setting() -> None:
    error = gymnasium.error.Error("X-v0 registered but entry_point is not specified")
    assert "env.vectorization=vector_entry_point" in _wrapped(error)


def test_arguments_of_the_environment_are_part_of_the_message() -> None:
    config = CORRIDOR.model_copy(update={"kwargs": {"length": -1}})
    message = _wrapped(ValueError("length must be\n  positive"), config)
    assert message.endswith("with {'length': -1}: ValueError: length must be positive")
    assert "with" not in _wrapped(ValueError("no"))


def test_an_error_that_is_explained_already_is_not_wrapped() -> None:
    error = UnsupportedEnvironmentError("env.wrappers: no")
    with pytest.raises(UnsupportedEnvironmentError) as caught, wrap_creation_errors(CORRIDOR):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_an_interrupt_during_creation_is_not_wrapped(error: type[BaseException]) -> None:
    with pytest.raises(error), wrap_creation_errors(CORRIDOR):
        raise error


@pytest.mark.parametrize("fails", [False, True])
def test_warnings_are_suppressed_and_the_log_level_is_restored(fails: bool) -> None:
    before = logging.getLogger().level
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with wrap_creation_errors(CORRIDOR):
                warnings.warn("out of date", DeprecationWarning, stacklevel=1)
                logging.getLogger().setLevel(before + 7)
                if fails:
                    raise ValueError
        except UnsupportedEnvironmentError:
            assert fails
    assert caught == []
    assert logging.getLogger().level == before


@pytest.mark.parametrize("error", [ZeroDivisionError("one\ntwo"), SystemExit("one two")])
def test_an_exception_of_an_environment_names_it_and_the_call(error: BaseException) -> None:
    with pytest.raises(EnvironmentFailedError) as caught, wrap_env_errors("Thing-v0", "reset"):
        raise error
    message = f"'Thing-v0' failed in reset: {type(error).__name__}: one two; fix the environment"
    assert str(caught.value).startswith(message)
    assert caught.value.__cause__ is error
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError(KeyError("wheel")), "KeyError: 'wheel'"),  # as Gymnasium raises it again
        (StopIteration(), "StopIteration"),
        (ValueError("ValueError"), "ValueError"),
    ],
)
def test_an_exception_is_described_once(error: Exception, text: str) -> None:
    assert describe_error(error) == text


def test_a_second_instance_that_cannot_be_made_names_the_first() -> None:
    config = EnvConfig(id="CartPole-v1", kwargs={"max_episode_steps": 9})
    refused = r"RuntimeError: busy; an earlier instance could be made in this process"
    with pytest.raises(UnsupportedEnvironmentError) as caught, wrap_creation_errors(config):
        raise RuntimeError("busy")
    assert "an earlier instance" not in str(caught.value)
    with wrap_creation_errors(config):
        pass
    with (
        pytest.raises(UnsupportedEnvironmentError, match=refused),
        wrap_creation_errors(config),
    ):
        raise RuntimeError("busy")


def test_a_constructor_without_a_render_mode_gets_the_remedy() -> None:
    with (
        pytest.raises(UnsupportedEnvironmentError, match="let its __init__ take render_mode=None"),
        wrap_creation_errors(EnvConfig()),
    ):
        raise TypeError("got an unexpected keyword argument 'render_mode'")


def test_a_failure_of_the_environment_is_not_wrapped_twice() -> None:
    error = EnvironmentFailedError("hangs")
    with pytest.raises(EnvironmentFailedError) as caught, wrap_env_errors("Thing-v0", "step"):
        raise error
    assert caught.value is error


def test_an_interrupt_in_an_environment_is_not_wrapped() -> None:
    with pytest.raises(KeyboardInterrupt), wrap_env_errors("Thing-v0", "step"):
        raise KeyboardInterrupt
