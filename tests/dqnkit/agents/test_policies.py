from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents.policies import GreedyPolicy, RandomPolicy, SavedPolicy
from dqnkit.config.sections import AgentConfig, Config, NetworkConfig
from dqnkit.envs.specs import EnvSpec, ObservationKind, ObservationSpec
from dqnkit.errors import PolicyError
from tests.specs import array_spec, observation_spec, vector_spec


def test_a_saved_policy_takes_observations_and_returns_actions_of_the_environment() -> None:
    observation = observation_spec(
        ObservationKind.DISCRETE, (), "int64", num_values=4, first_value=10
    )
    policy = GreedyPolicy(
        EnvSpec("", observation, num_actions=2, first_action=-1),
        Config(network=NetworkConfig(fc_layer_params=())),
    )
    better_left = np.float32([[1, 0, 1, 0], [0, 1, 0, 1]])
    policy.set_weights(np.append(better_left, [0.0, 0.0]))
    policy.save(Path("saved"))
    serve = tf.saved_model.load("saved").signatures["serving_default"]
    actions = serve(observations=tf.constant([10, 11, 12, 13], tf.int64))["actions"]
    np.testing.assert_array_equal(actions, [-1, 0, -1, 0])


def _saved(
    observation: ObservationSpec, num_actions: int = 3, agent: AgentConfig | None = None
) -> tuple[GreedyPolicy, EnvSpec]:
    spec = EnvSpec("An-Env", observation, num_actions, first_action=2)
    network = NetworkConfig(conv_layer_params=(), fc_layer_params=(5,), dueling=agent is not None)
    policy = GreedyPolicy(spec, Config(network=network, agent=agent or AgentConfig()))
    policy.save(Path("saved"))
    return policy, spec


@pytest.mark.parametrize(
    "observation",
    [
        observation_spec(ObservationKind.VECTOR, (4,), "float32"),
        observation_spec(ObservationKind.VECTOR, (4,), "float32", frame_stack=2),
        observation_spec(ObservationKind.DISCRETE, (), "int64", num_values=6),
        observation_spec(ObservationKind.IMAGE, (6, 6, 2), "uint8", low=0, high=255),
    ],
)
def test_a_loaded_policy_equals_the_saved_one(
    observation: ObservationSpec,
) -> None:
    policy, spec = _saved(observation)
    loaded = SavedPolicy(Path("saved"), spec)
    rng = np.random.default_rng(0)
    observations = tf.constant(
        rng.integers(0, 6, (9, *observation.shape)).astype(observation.dtype)
    )
    np.testing.assert_allclose(
        loaded.q_values(observations), policy.q_values(observations), rtol=1e-5
    )
    np.testing.assert_array_equal(loaded.actions(observations), policy.actions(observations))


@pytest.mark.parametrize(
    "paths",
    [
        [(0,), (1,), (2,)],  # Blackjack's Tuple
        [("self",), ("global",), ("2d",)],
        [("A",), ("a",), ("höhe",)],
        [("a", "b"), ("a_b",), ("a.b",)],
    ],
)
def test_a_policy_of_several_arrays_is_saved_whatever_they_are_called(
    paths: list[tuple[str | int, ...]],
) -> None:
    kinds = [("vector", (2,), {}), ("discrete", (), {"num_values": 4}), ("vector", (3,), {})]
    arrays = tuple(
        array_spec(kind, shape, path=path, **fields)
        for (kind, shape, fields), path in zip(kinds, paths, strict=True)
    )
    policy, spec = _saved(ObservationSpec(arrays))
    rng = np.random.default_rng(0)
    policy.set_weights(rng.normal(size=policy._network.parameters.shape).astype(np.float32))
    policy.save(Path("again"))
    loaded = SavedPolicy(Path("again"), spec)
    frames = np.zeros((6, *spec.observation.shape), np.uint8)
    frames[:, 8] = [0, 1, 2, 3, 2, 1]
    np.testing.assert_allclose(
        loaded.q_values(tf.constant(frames)), policy.q_values(tf.constant(frames)), rtol=1e-5
    )


def test_a_loaded_categorical_policy_equals_the_saved_one() -> None:
    agent = AgentConfig(kind="c51", v_min=-5.0, v_max=5.0)
    policy, spec = _saved(observation_spec(ObservationKind.VECTOR, (4,), "float32"), agent=agent)
    rng = np.random.default_rng(0)
    policy.set_weights(rng.normal(size=policy._network.parameters.shape).astype(np.float32))
    policy.save(Path("again"))
    observations = tf.constant(rng.normal(size=(9, 4)), tf.float32)
    loaded = SavedPolicy(Path("again"), spec)
    np.testing.assert_allclose(
        loaded.q_values(observations), policy.q_values(observations), rtol=1e-4
    )
    assert len(set(policy.actions(observations).numpy())) > 1


def test_a_policy_for_another_environment_is_rejected() -> None:
    _, spec = _saved(observation_spec(ObservationKind.VECTOR, (4,), "float32"))
    wider = replace(spec, observation=observation_spec(ObservationKind.VECTOR, (5,), "float32"))
    with pytest.raises(PolicyError, match=r"shape \(4,\).*'An-Env' has \(5,\)"):
        SavedPolicy(Path("saved"), wider)
    with pytest.raises(PolicyError, match="among 3 actions"):
        SavedPolicy(Path("saved"), replace(spec, num_actions=4))


@pytest.mark.parametrize("part", ["saved_model.pb", "variables/variables.index"])
def test_a_damaged_policy_is_reported_in_one_line(part: str) -> None:
    _, spec = _saved(observation_spec(ObservationKind.VECTOR, (4,), "float32"))
    path = Path("saved") / part
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(PolicyError, match="saved: the saved policy cannot be read") as caught:
        SavedPolicy(Path("saved"), spec)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_random_actions_are_uniform() -> None:
    policy = RandomPolicy(vector_spec(4, num_actions=3))
    uniforms = np.random.default_rng(0).random((30_000, 1))
    actions = policy.actions(tf.zeros([30_000, 4]), tf.constant(uniforms)).numpy()
    assert actions.dtype == np.int32
    counts = np.bincount(actions, minlength=3)
    assert counts.size == 3
    # Five standard deviations of a binomial count.
    np.testing.assert_allclose(counts, 10_000, atol=5 * np.sqrt(30_000 * 2 / 9))
