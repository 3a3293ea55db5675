from __future__ import annotations

from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError

CORRIDOR = "env.id=tests.environments:Corridor-v0"


def _config(*assignments: str) -> Config:
    return loading.default_config("test", assignments)


@pytest.mark.parametrize(
    ("assignments", "loop"),
    [
        ((), "graph"),
        (("training.loop=host",), "host"),
        (("env.id=Taxi-v4",), "graph"),
        (("env.id=LunarLander-v3",), "host"),
        (("env.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}]",), "host"),
        (("evaluation.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}]",), "host"),
        (("env.frame_stack=2",), "host"),
    ],
)
def test_auto_chooses_the_graph_if_possible(assignments: tuple[str, ...], loop: str) -> None:
    assert resolve(_config(*assignments))[0].training.loop == loop


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("env.id=LunarLander-v3", "is not implemented as TensorFlow operations"),
        ("env.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}]", "run in Python"),
        ("env.kwargs={sutton_barto_reward: true}", "sutton_barto_reward"),
        ("env.frame_stack=2", "frames are stacked in Python"),
    ],
)
def test_an_impossible_graph_loop_is_an_error_with_the_reason(assignment: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.loop=graph: .*" + reason):
        resolve(_config("training.loop=graph", assignment))


@pytest.mark.parametrize(
    ("observe", "given", "network"),
    [
        ("state", "{}", ((), (100, 50))),
        ("discrete", "{fc_layer_params: [7]}", ((), (7,))),
        ("image", "{}", (((16, 3, 1),), (128,))),
        ("image", "{conv_layer_params: []}", ((), (100, 50))),
        ("image", "{fc_layer_params: []}", (((16, 3, 1),), ())),
        ("image", "{conv_layer_params: [[2, 2, 1]]}", (((2, 2, 1),), (128,))),
    ],
)
def test_the_network_follows_from_the_observation(observe: str, given: str, network: Any) -> None:
    config = _config(CORRIDOR, f"env.kwargs={{observe: {observe}}}", f"network={given}")
    resolved = resolve(config)[0].network
    assert (resolved.conv_layer_params, resolved.fc_layer_params) == network


def test_frames_of_84_by_84_get_the_nature_network() -> None:
    wide = "env.wrappers=[gymnasium.wrappers.ResizeObservation: {shape: [84, 84]}]"
    config = _config(CORRIDOR, "env.kwargs={observe: image}", "env.frame_stack=4", wide)
    resolved, spec = resolve(config)
    assert spec.observation.shape == (4, 84, 84)
    assert resolved.network.conv_layer_params == ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    assert resolved.network.fc_layer_params == (512,)


def test_convolutions_over_a_vector_or_beyond_an_image_are_errors() -> None:
    with pytest.raises(ConfigError, match="have no images"):
        resolve(_config("network.conv_layer_params=[[8, 3, 1]]"))
    image = (CORRIDOR, "env.kwargs={observe: image}")
    with pytest.raises(ConfigError, match="kernel of 4 by 4 does not fit into its input of 2 by 1"):
        resolve(_config(*image, "network.conv_layer_params=[[8, 5, 1], [8, 4, 1]]"))


def test_evaluation_must_have_the_observations_of_training() -> None:
    flat = "evaluation.wrappers=[gymnasium.wrappers.FlattenObservation]"
    with pytest.raises(ConfigError, match=r"evaluation\.wrappers"):
        resolve(_config(CORRIDOR, "env.kwargs={observe: image}", flat))


@pytest.mark.parametrize("section", ["env", "evaluation"])
def test_wrappers_without_single_environments_are_errors(section: str) -> None:
    wrapper = f"{section}.wrappers=[gymnasium.wrappers.ClipReward]"
    with pytest.raises(ConfigError, match=rf"{section}\.wrappers contains .*sync or async"):
        _config("env.vectorization=vector_entry_point", wrapper)


@pytest.mark.parametrize(
    ("assignments", "low", "high"),
    [
        ((), 0.0, 100.0),  # 1 per step without end: a time limit is bootstrapped
        (("env.id=CartPole-v0", "agent.gamma=0.999"), 0.0, 1000.0),
        (("env.id=MountainCar-v0", "agent.gamma=0.98"), -50.0, 0.0),
        (("env.id=Acrobot-v1", "env.kwargs={max_episode_steps: 30}"), -100.0, 0.0),
        (("env.frame_stack=4", "env.vectorization=async"), 0.0, 100.0),  # no effect on rewards
        (("env.id=FrozenLake-v1", "agent.gamma=0.5"), 0.0, 1.0),  # once, at the end
        # A fall costs 100, and the way from the start is 13 steps: -100 - 0.9 (1 - 0.9**13) / 0.1
        (("env.id=CliffWalking-v1", "agent.gamma=0.9"), -106.712, 0.0),
        (("agent.v_min=-7", "agent.gamma=0.5"), -7.0, 2.0),
        (("env.id=LunarLander-v3", "agent.v_min=-1", "agent.v_max=1"), -1.0, 1.0),
    ],
)
def test_the_range_of_returns_follows_from_rewards_and_time_limit(
    assignments: tuple[str, ...], low: float, high: float
) -> None:
    agent = resolve(_config("agent.kind=c51", *assignments))[0].agent
    assert (agent.v_min, agent.v_max) == pytest.approx((low, high), rel=1e-5)


@pytest.mark.parametrize(
    ("assignments", "reason"),
    [
        (("env.id=LunarLander-v3",), "'LunarLander-v3'.*agent.v_min and agent.v_max"),
        (
            ("env.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}]",),
            "are unknown as it is configured",
        ),
        (("agent.gamma=1",), "unknown.*agent.gamma=1"),
        (("agent.v_min=200",), "agent.v_min=200 and agent.v_max=100 do not overlap with"),
        (("agent.v_min=0", "agent.v_max=100", "env.id=MountainCar-v0"), "between -100 and 0"),
    ],
)
def test_an_unknown_or_disjoint_range_of_returns_is_an_error(
    assignments: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        resolve(_config("agent.kind=double_c51", *assignments))


def test_resolving_twice_changes_nothing() -> None:
    resolved, spec = resolve(_config(CORRIDOR, "env.kwargs={observe: image}"))
    assert resolve(resolved) == (resolved, spec)
    assert loading.dump(resolved) == loading.dump(resolve(resolved)[0])
