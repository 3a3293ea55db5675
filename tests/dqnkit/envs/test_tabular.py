"""Environments with a transition table agree with Gymnasium's in distribution."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import registry, transition_table
from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics

CASES: list[tuple[str, dict[str, Any]]] = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False, "map_name": "8x8"}),
    ("FrozenLake8x8-v1", {}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
]
each_case = pytest.mark.parametrize(("env_id", "kwargs"), CASES)


def _dynamics(env_id: str, kwargs: dict[str, Any]) -> Dynamics:
    return registry.make_dynamics(EnvConfig(id=env_id, kwargs=kwargs))


def _assert_drawn_from(numbers: np.ndarray, probability: np.ndarray) -> None:
    observed = np.bincount(numbers.astype(int), minlength=len(probability))
    assert observed[probability == 0].sum() == 0
    expected = probability[probability > 0] * len(numbers)
    statistic = ((observed[probability > 0] - expected) ** 2 / expected).sum()
    freedom = max(len(expected) - 1, 1)
    assert statistic < freedom + 4.5 * np.sqrt(2 * freedom) + 4.5


@each_case
def test_initial_states_have_gymnasiums_distribution(env_id: str, kwargs: dict[str, Any]) -> None:
    dynamics = _dynamics(env_id, kwargs)
    uniforms = np.random.default_rng(0).random((20_000, 1))
    states = dynamics.reset(tf.constant(uniforms)).numpy()[:, 0]
    env: Any = gymnasium.make(env_id, **kwargs).unwrapped
    _assert_drawn_from(states, np.asarray(env.initial_state_distrib))


@each_case
def test_each_state_and_action_goes_where_gymnasium_says(
    env_id: str, kwargs: dict[str, Any]
) -> None:
    """Every pair of the table, 400 times each, against Gymnasium's own probabilities."""
    dynamics, repeats = _dynamics(env_id, kwargs), 400
    env: Any = gymnasium.make(env_id, **kwargs).unwrapped
    pairs = [(s, a) for s in env.P for a in env.P[s]]
    if len(pairs) > 200:
        pairs = pairs[:: len(pairs) // 200]
    states, actions = np.repeat(np.array(pairs), repeats, axis=0).T
    rng = np.random.default_rng(1)
    uniforms = rng.random((len(states), dynamics.num_step_uniforms))
    step = tf.function(dynamics.step, jit_compile=True)
    following, reward, terminated = step(
        tf.constant(states[:, None], tf.float64), tf.constant(actions, tf.int32), uniforms
    )
    outcomes = np.stack(
        [following.numpy()[:, 0], reward.numpy(), terminated.numpy()], axis=1
    ).reshape(len(pairs), repeats, 3)
    for (state, action), drawn in zip(pairs, outcomes, strict=True):
        expected: dict[tuple[float, float, float], float] = {}
        for probability, to, r, done in env.P[state][action]:
            key = (float(to), float(np.float32(r)), float(done))
            expected[key] = expected.get(key, 0.0) + probability
        found = {tuple(map(float, row)) for row in drawn}
        assert found <= {key for key, p in expected.items() if p > 0}
        for key, probability in expected.items():
            share = np.mean([tuple(map(float, row)) == key for row in drawn])
            assert abs(share - probability) < 5 * np.sqrt(0.25 / repeats)


@each_case
def test_random_episodes_have_gymnasiums_lengths_and_returns(
    env_id: str, kwargs: dict[str, Any]
) -> None:
    kwargs = kwargs | {"max_episode_steps": 40}
    dynamics, num_envs, steps = _dynamics(env_id, kwargs), 100, 200
    environment, rng = BatchedEnvironment(dynamics), np.random.default_rng(2)
    step = tf.function(environment.step, jit_compile=True)
    episodes = environment.reset(tf.constant(rng.random((num_envs, 1))))
    ours = np.zeros((2, num_envs, steps))
    for i in range(steps):
        action = rng.integers(dynamics.num_actions, size=num_envs).astype(np.int32)
        uniforms = tf.constant(rng.random((num_envs, environment.num_uniforms)))
        episodes, timestep = step(episodes, tf.constant(action), uniforms)
        ours[:, :, i] = timestep.reward.numpy(), timestep.done.numpy()
    env = gymnasium.make(env_id, **kwargs)
    env.action_space.seed(3)
    env.reset(seed=4)
    theirs = np.zeros((2, num_envs * steps))
    for i in range(num_envs * steps):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        theirs[:, i] = reward, terminated or truncated
        if terminated or truncated:
            env.reset()
    for mine, other in zip(ours.reshape(2, -1), theirs, strict=True):
        # Mean reward and mean number of ends per step. Steps of one episode are correlated, so
        # the margin is wide.
        error = max(mine.std(), other.std()) / np.sqrt(mine.size)
        assert abs(mine.mean() - other.mean()) < 8 * error + 1e-9


def test_an_end_in_the_table_is_terminal_and_a_time_limit_is_not() -> None:
    dynamics = _dynamics("FrozenLake-v1", {"is_slippery": False, "max_episode_steps": 2})
    environment = BatchedEnvironment(dynamics)
    episodes = environment.reset(tf.zeros([1, 1], tf.float64))
    nothing = tf.zeros([1, environment.num_uniforms], tf.float64)
    right, down = tf.constant([2]), tf.constant([1])
    episodes, timestep = environment.step(episodes, right, nothing)
    assert not timestep.done.numpy()[0]
    _, into_hole = environment.step(episodes, down, nothing)
    assert (into_hole.terminated.numpy()[0], into_hole.discount.numpy()[0]) == (True, 0.0)
    _, cut = environment.step(episodes, right, nothing)
    assert (cut.terminated.numpy()[0], cut.truncated.numpy()[0]) == (False, True)
    assert cut.discount.numpy()[0] == 1.0


def test_an_environment_without_a_limit_has_none() -> None:
    table = transition_table.transition_table(EnvConfig(id="CliffWalking-v1"))
    assert table.max_episode_steps is None
    assert _dynamics("CliffWalking-v1", {}).max_episode_steps > 10**9


def test_the_best_policy_on_ice_arrives_in_74_of_100_episodes() -> None:
    """Backward induction over the 100 steps of an episode, in our own table."""
    table = transition_table.transition_table(EnvConfig(id="FrozenLake-v1"))
    value = np.zeros(16)
    for _ in range(100):
        outcome = table.reward + np.where(table.terminated, 0.0, value[table.next_state])
        value = (table.probability * outcome).sum(axis=2).max(axis=1)
    assert value[0] == pytest.approx(0.744, abs=5e-4)
