from __future__ import annotations

from typing import Any

import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import registry


def _reason(env_id: str, **settings: Any) -> str | None:
    return registry.graph_objection(EnvConfig(id=env_id, **settings))


@pytest.mark.parametrize("env_id", registry.GRAPH_ENVIRONMENTS)
def test_each_environment_of_the_graph_has_dynamics_of_its_id(env_id: str) -> None:
    config = EnvConfig(id=env_id)
    assert registry.graph_objection(config) is None
    assert registry.make_dynamics(config).id == env_id


@pytest.mark.parametrize(("given", "limit"), [(None, 500), (-1, 2**31 - 1), (17, 17)])
def test_a_time_limit_means_what_it_means_to_gymnasium(given: int | None, limit: int) -> None:
    config = EnvConfig(id="CartPole-v1", kwargs={"max_episode_steps": given})
    assert registry.make_dynamics(config).max_episode_steps == limit


def test_a_time_limit_may_be_changed_in_the_graph() -> None:
    for env_id in ("CartPole-v1", "FrozenLake-v1"):
        config = EnvConfig(id=env_id, kwargs={"max_episode_steps": 17})
        assert registry.graph_objection(config) is None
        assert registry.make_dynamics(config).max_episode_steps == 17


@pytest.mark.parametrize(
    ("env_id", "settings", "reason"),
    [
        ("Blackjack-v1", {}, "no version in the graph"),
        ("CartPole-v1", {"kwargs": {"sutton_barto_reward": True}}, "sutton_barto_reward"),
        ("CartPole-v1", {"wrappers": ["gymnasium.wrappers.ClipReward"]}, "ClipReward"),
        ("CartPole-v1", {"vectorization": "async"}, "env.vectorization is async"),
        ("CartPole-v1", {"frame_stack": 2}, "env.frame_stack is 2"),
        ("Taxi-v4", {"kwargs": {"fickle_passenger": True}}, "fickle_passenger"),
    ],
)
def test_what_the_graph_cannot_do_is_said(
    env_id: str, settings: dict[str, Any], reason: str
) -> None:
    said = _reason(env_id, **settings)
    assert said is not None
    assert reason in said
