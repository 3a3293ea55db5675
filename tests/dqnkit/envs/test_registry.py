from __future__ import annotations

from typing import Any

import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import registry


def _reason(env_id: str, **settings: Any) -> str | None:
    return registry.why_not_in_graph(EnvConfig(id=env_id, **settings))


@pytest.mark.parametrize("env_id", registry.GRAPH_ENVIRONMENTS)
def test_each_environment_of_the_graph_has_dynamics_of_its_id(env_id: str) -> None:
    config = EnvConfig(id=env_id)
    assert registry.why_not_in_graph(config) is None
    assert registry.make_dynamics(config).id == env_id


@pytest.mark.parametrize(("given", "limit"), [(None, 500), (-1, 2**31 - 1), (17, 17)])
def test_a_time_limit_is_interpreted_as_by_gymnasium(given: int | None, limit: int) -> None:
    config = EnvConfig(id="CartPole-v1", kwargs={"max_episode_steps": given})
    assert registry.make_dynamics(config).max_episode_steps == limit


def test_a_time_limit_may_be_changed_in_the_graph() -> None:
    for env_id in ("CartPole-v1", "FrozenLake-v1"):
        config = EnvConfig(id=env_id, kwargs={"max_episode_steps": 17})
        assert registry.why_not_in_graph(config) is None
        assert registry.make_dynamics(config).max_episode_steps == 17


@pytest.mark.parametrize(
    ("env_id", "settings", "reason"),
    [
        ("Blackjack-v1", {}, "not implemented as TensorFlow operations"),
        ("CartPole-v1", {"kwargs": {"sutton_barto_reward": True}}, "sutton_barto_reward"),
        ("CartPole-v1", {"wrappers": ["gymnasium.wrappers.ClipReward"]}, "ClipReward"),
        ("CartPole-v1", {"vectorization": "async"}, "env.vectorization is async"),
        ("CartPole-v1", {"frame_stack": 2}, "env.frame_stack is 2"),
        ("Taxi-v4", {"kwargs": {"fickle_passenger": True}}, "fickle_passenger"),
    ],
)
def test_the_reason_against_the_graph_loop_is_given(
    env_id: str, settings: dict[str, Any], reason: str
) -> None:
    objection = _reason(env_id, **settings)
    assert objection is not None
    assert reason in objection


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Taxi-v4"])
def test_equal_configurations_share_their_dynamics(env_id: str) -> None:
    dynamics = registry.make_dynamics(EnvConfig(id=env_id))
    assert registry.make_dynamics(EnvConfig(id=env_id)) is dynamics
    other = registry.make_dynamics(EnvConfig(id=env_id, kwargs={"max_episode_steps": 17}))
    assert (other is dynamics, other == dynamics) == (False, False)


def test_the_reason_against_an_unknown_id_lists_all_known_ones() -> None:
    objection = _reason("Blackjack-v1")
    assert objection is not None
    assert all(env_id in objection for env_id in registry.GRAPH_ENVIRONMENTS)


@pytest.mark.parametrize(
    ("env_id", "gamma", "bounds"),
    [
        ("CartPole-v1", 0.9, (0.0, 10.0)),
        ("MountainCar-v0", 0.5, (-2.0, 0.0)),
        ("Acrobot-v1", 0.0, (-1.0, 0.0)),
        ("FrozenLake-v1", 0.9, (0.0, 1.0)),
    ],
)
def test_bounds_of_the_return_follow_from_the_rewards(
    env_id: str, gamma: float, bounds: tuple[float, float]
) -> None:
    assert registry.return_range(EnvConfig(id=env_id), gamma) == pytest.approx(bounds)


@pytest.mark.parametrize(
    ("config", "gamma"),
    [
        (EnvConfig(id="CartPole-v1"), 1.0),
        (EnvConfig(id="Blackjack-v1"), 0.9),
        (EnvConfig(id="CartPole-v1", kwargs={"sutton_barto_reward": True}), 0.9),
        (EnvConfig.model_validate({"wrappers": ["gymnasium.wrappers.ClipReward"]}), 0.9),
    ],
)
def test_bounds_of_the_return_are_unknown_without_a_discount_or_known_rewards(
    config: EnvConfig, gamma: float
) -> None:
    assert registry.return_range(config, gamma) is None


def test_stacks_and_processes_do_not_change_the_bounds_of_the_return() -> None:
    config = EnvConfig(id="CliffWalking-v1", frame_stack=4, vectorization="async")
    plain = EnvConfig(id="CliffWalking-v1")
    assert registry.return_range(config, 0.9) == registry.return_range(plain, 0.9)
