from __future__ import annotations

from typing import Any

import gymnasium
import pytest
from gymnasium.vector import SyncVectorEnv

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.description import describe_env
from dqnkit.envs.factory import make_env
from dqnkit.envs.specs import ObservationKind
from dqnkit.errors import UnsupportedEnvironmentError

CORRIDOR = "tests.environments:Corridor-v0"


def _message(env_id: str, **settings: Any) -> str:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        describe_env(EnvConfig(id=env_id, **settings))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_id_names_the_nearest() -> None:
    message = _message("CartPole-v9")
    assert "CartPole-v9" in message
    assert "did you mean 'CartPole-v" in message


def test_ids_that_gymnasium_has_retired_are_explained() -> None:
    assert "HalfCheetah-v2" in _message("HalfCheetah-v2")


def test_continuous_actions_name_the_space() -> None:
    message = _message("Pendulum-v1")
    assert "Box(-2.0, 2.0" in message
    assert "Discrete" in message


def test_observations_that_cannot_be_flattened_name_the_space() -> None:
    message = _message(CORRIDOR, kwargs={"observe": "text"})
    assert "Sequence(Discrete(2)" in message
    assert "env.wrappers" in message


@pytest.mark.parametrize("env_id", ["no_such_module:Thing-v0", "???", "", "a:b:c", "ALE/x", "x/y"])
def test_malformed_ids_are_explained(env_id: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=r"env\.id"):
        make_env(EnvConfig.model_construct(id=env_id))


@pytest.mark.parametrize(
    ("observe", "kind", "shape", "dtype"),
    [
        ("state", ObservationKind.VECTOR, (1,), "float32"),
        ("one_hot", ObservationKind.VECTOR, (6,), "float32"),
        ("discrete", ObservationKind.DISCRETE, (), "uint16"),
        ("image", ObservationKind.IMAGE, (6, 5), "uint8"),
        ("channels_first", ObservationKind.IMAGE, (2, 6, 5), "uint8"),
        ("bits", ObservationKind.IMAGE, (6, 5, 3), "bool"),
        ("matrix", ObservationKind.VECTOR, (2, 3), "float32"),
    ],
)
def test_each_space_has_the_spec_that_fits_it(
    observe: str, kind: ObservationKind, shape: tuple[int, ...], dtype: str
) -> None:
    spec = describe_env(EnvConfig(id=CORRIDOR, kwargs={"observe": observe}))
    (array,) = spec.observation.arrays
    assert (array.kind, array.shape, array.dtype) == (kind, shape, dtype)
    assert (spec.num_actions, spec.first_action) == (3, 0)


def test_wrappers_and_arguments_are_applied() -> None:
    wrapper = {"tests.environments.Doubled": {"factor": 3.0}}
    env = make_env(EnvConfig(id=CORRIDOR, wrappers=[wrapper, "tests.environments.Doubled"]))
    env.reset()
    assert env.step(0)[1] == 60.0
    assert make_env(EnvConfig(id=CORRIDOR, kwargs={"length": 7})).unwrapped.length == 7


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("tests.environments.Tripled", "'tests.environments.Tripled' cannot be imported"),
        ("no_such_module.Wrapper", "'no_such_module.Wrapper' cannot be imported"),
        ({"tests.environments.Doubled": {"foctar": 3.0}}, "foctar"),
        ("builtins.id", "must return a gymnasium.Env"),
    ],
)
def test_unusable_wrappers_are_explained(wrapper: Any, message: str) -> None:
    assert message in _message(CORRIDOR, wrappers=[wrapper])


def test_arguments_that_the_environment_does_not_take_are_named() -> None:
    message = _message("CartPole-v1", kwargs={"gravitas": 3})
    assert "gravitas" in message


def test_a_wrapper_whose_module_breaks_is_explained(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "broken_module.py").write_text("raise ValueError('not today')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "not today" in _message(CORRIDOR, wrappers=["broken_module.Wrapper"])


def test_an_environment_without_spaces_is_explained() -> None:
    gymnasium.register("Bare-v0", entry_point=type("Bare", (gymnasium.Env,), {}))
    assert "observation_space" in _message("Bare-v0")


def test_choices_beyond_all_memory_are_refused() -> None:
    assert "1,073,741,824 values" in _message(CORRIDOR, kwargs={"observe": "endless"})


def test_an_environment_with_only_a_vector_class_names_the_setting() -> None:
    gymnasium.register("VectorOnly-v0", vector_entry_point=SyncVectorEnv)
    assert "vectorization=vector_entry_point" in _message("VectorOnly-v0")


def test_an_unseeded_random_map_is_refused() -> None:
    assert "map_name" in _message("FrozenLake-v1", kwargs={"map_name": None})
    given = {"map_name": None, "desc": ["SF", "FG"]}
    assert describe_env(EnvConfig(id="FrozenLake-v1", kwargs=given)).observation.arrays[
        0
    ].num_values == (4,)


def test_an_observation_without_numbers_is_refused() -> None:
    assert "contains no numbers" in _message(CORRIDOR, kwargs={"observe": "nothing"})
