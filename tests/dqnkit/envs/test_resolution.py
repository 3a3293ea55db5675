from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import as_recorded, cautions, resolve
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


# -- What a user should know of


def _cautions(*assignments: str) -> list[str]:
    given = _config(*assignments)
    return cautions(given, *resolve(given))


def _image_env(*shape: int) -> tuple[str, ...]:
    dims = ", ".join(map(str, shape))
    return (
        CORRIDOR,
        "env.kwargs={observe: image}",
        f"env.wrappers=[tests.environments.Reshaped: {{shape: [{dims}]}}]",
    )


@pytest.mark.parametrize(
    ("shape", "axis", "other"),
    [((12, 8, 8), "first", "last"), ((8, 8, 12), "last", "first"), ((8, 8, 8), "last", "first")],
)
def test_a_doubtful_axis_of_channels_is_told_and_recorded(
    shape: tuple[int, ...], axis: str, other: str
) -> None:
    resolved, spec = resolve(_config(*_image_env(*shape)))
    assert resolved.env.channels == axis
    (warning,) = _cautions(*_image_env(*shape))
    assert f"images of shape {shape} are read as 8 by 8 with" in warning
    assert f"set env.channels to {other}, and otherwise to {axis}" in warning
    assert cautions(resolved, *resolve(resolved)) == []
    told = (f"env.channels={other}",)
    assert _cautions(*_image_env(*shape), *told) == []
    (image,) = resolve(_config(*_image_env(*shape), *told))[1].observation.arrays
    assert (
        image.channels_first is (other == "first") is not spec.observation.arrays[0].channels_first
    )


def test_a_certain_axis_of_channels_is_recorded_without_a_word() -> None:
    assert resolve(_config(*_image_env(3, 10, 12)))[0].env.channels == "first"
    assert _cautions(*_image_env(3, 10, 12)) == []


def test_channels_without_images_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"env\.channels=last: .*\(4,\) float32"):
        resolve(_config("env.channels=last"))


def test_evaluation_leaves_out_wrappers_that_change_rewards_and_says_so() -> None:
    wrappers = (
        "env.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}, "
        "gymnasium.wrappers.FlattenObservation]"
    )
    resolved = resolve(_config(wrappers))[0]
    paths = [each.path for each in resolved.evaluation_env.wrappers]
    assert paths == ["gymnasium.wrappers.FlattenObservation"]
    assert len(resolved.env.wrappers) == 2
    (warning,) = _cautions(wrappers)
    assert warning.startswith("evaluation plays without gymnasium.wrappers.ClipReward, ")
    kept = "evaluation.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}]"
    assert _cautions(wrappers, kept) == []
    assert len(resolve(_config(wrappers, kept))[0].evaluation_env.wrappers) == 1


def test_a_run_of_before_keeps_its_evaluation_when_it_is_resumed() -> None:
    clip = "env.wrappers=[gymnasium.wrappers.ClipReward: {max_reward: 1.0}]"
    before = as_recorded(_config(clip))
    resolved = resolve(before)[0]
    assert resolved.evaluation_env.wrappers == before.env.wrappers != ()
    assert cautions(before, *resolve(before)) == []
    now = resolve(_config(clip))[0]
    assert as_recorded(now) == now
    vector = _config("env.id=ALE/Pong-v5", "env.vectorization=vector_entry_point")
    assert as_recorded(vector).evaluation.kwargs == {"reward_clipping": True}
    assert as_recorded(_config()) == _config()


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "ale_py:ALE/Pong-v5"])
def test_evaluation_in_ataris_vector_class_does_not_clip_rewards(env_id: str) -> None:
    vector = (f"env.id={env_id}", "env.vectorization=vector_entry_point")
    resolved = resolve(_config(*vector))[0]
    assert resolved.env.kwargs == {}
    assert resolved.evaluation_env.kwargs == {"reward_clipping": False}
    assert "reward_clipping" in _cautions(*vector)[0]
    for told in ("env.kwargs.reward_clipping=false", "evaluation.kwargs.reward_clipping=true"):
        assert _cautions(*vector, told) == []


def test_evaluation_may_have_arguments_of_its_own() -> None:
    resolved = resolve(_config(CORRIDOR, "evaluation.kwargs={length: 9}"))[0]
    assert (resolved.env.kwargs, resolved.evaluation_env.kwargs) == ({}, {"length": 9})
    with pytest.raises(ConfigError, match=r"evaluation\.kwargs: .*\(6, 5\) uint8"):
        resolve(_config(CORRIDOR, "evaluation.kwargs={observe: image}"))
    graph = resolve(_config("evaluation.kwargs={max_episode_steps: 50}"))[0]
    assert graph.training.loop == "graph"
    assert (
        resolve(_config("evaluation.kwargs={sutton_barto_reward: true}"))[0].training.loop == "host"
    )


def test_two_environments_become_one_where_only_one_can_live(tmp_path: Path) -> None:
    single = (
        "env.id=tests.odd:Licensed-v0",
        f"env.kwargs={{lock: {tmp_path / 'lock'}}}",
        "env.num_envs=2",
        "evaluation.shares_environment=true",
    )
    assert resolve(_config(*single))[0].env.num_envs == 1
    (warning,) = _cautions(*single)
    assert "a second instance of 'tests.odd:Licensed-v0' cannot be made" in warning
    several = resolve(_config(CORRIDOR, "env.num_envs=2", "evaluation.shares_environment=true"))[0]
    assert several.env.num_envs == 2


@pytest.mark.parametrize(
    "other", ["evaluation.wrappers=[]", "evaluation.kwargs={length: 3}", "training.num_actors=1"]
)
def test_a_shared_environment_has_no_settings_of_its_own(other: str) -> None:
    reverb = ("replay.kind=reverb",)
    with pytest.raises(ConfigError, match="=true plays evaluation in the"):
        _config("evaluation.shares_environment=true", *reverb, other)
