from __future__ import annotations

import pytest

from dqnkit.envs import registry
from dqnkit.errors import UnsupportedEnvironmentError


def _message(env_id: str) -> str:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        registry.make(env_id)
    assert caught.value.exit_code == 2
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


def test_an_environment_outside_the_graph_names_those_inside() -> None:
    message = _message("Blackjack-v1")
    assert "Blackjack-v1" in message
    assert "Acrobot-v1" in message


@pytest.mark.parametrize("env_id", ["no_such_module:Thing-v0", "???", ""])
def test_ids_that_are_none_are_explained(env_id: str) -> None:
    assert "env.id" in _message(env_id)
