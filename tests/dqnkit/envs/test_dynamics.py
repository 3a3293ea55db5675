"""One conformance suite for all environments given by equations, against Gymnasium's own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest

from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import registry
from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics, EpisodeState, Timestep
from tests.environments import GraphCorridor

NUM_ENVS = 8
STEPS = 1_500  # in each of NUM_ENVS environments: 12,000 random steps per environment id

BY_EQUATIONS = ("CartPole-v0", "CartPole-v1", "MountainCar-v0", "Acrobot-v1")
NO_UNIFORMS = tf.zeros([NUM_ENVS, 0], tf.float64)  # steps of these environments take none

each_environment = pytest.mark.parametrize(
    "dynamics",
    [registry.make_dynamics(EnvConfig(id=env_id)) for env_id in BY_EQUATIONS],
    ids=lambda d: d.id,
)


def _gymnasium(env_id: str) -> gymnasium.Env[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CartPole-v0 is out of date, on purpose
        env = gymnasium.make(env_id)
    env.reset(seed=0)
    return env


def _state(env: gymnasium.Env[Any, Any]) -> np.ndarray:
    return np.asarray(env.unwrapped.state, np.float64)  # type: ignore[attr-defined]


def _set_state(env: gymnasium.Env[Any, Any], state: np.ndarray) -> None:
    """Sets Gymnasium's state to ours, so that each step is compared from the same state.

    The dynamics are chaotic: a difference in the last bit of a sine grows beyond any tolerance
    within an episode.
    """
    env.unwrapped.state = state  # type: ignore[attr-defined]


@each_environment
def test_every_step_agrees_with_gymnasium(dynamics: Dynamics) -> None:
    rng = np.random.default_rng(7)
    environment = BatchedEnvironment(dynamics)

    @tf.function(jit_compile=True)
    def step(episodes: EpisodeState, action: Tensor, uniforms: Tensor) -> tuple[Tensor, ...]:
        undisturbed, _, _ = dynamics.step(episodes.state, action, NO_UNIFORMS)
        return undisturbed, *environment.step(episodes, action, uniforms)

    episodes = environment.reset(tf.constant(rng.random((NUM_ENVS, dynamics.num_reset_uniforms))))
    twins = [_gymnasium(dynamics.id) for _ in range(NUM_ENVS)]
    terminations = truncations = 0

    for _ in range(STEPS):
        for twin, state in zip(twins, episodes.state.numpy(), strict=True):
            _set_state(twin, state)
        action = rng.integers(0, dynamics.num_actions, NUM_ENVS).astype(np.int32)
        uniforms = tf.constant(rng.random((NUM_ENVS, dynamics.num_reset_uniforms)))
        undisturbed, episodes, timestep = step(episodes, tf.constant(action), uniforms)
        observed = [twin.step(a) for twin, a in zip(twins, action, strict=True)]

        observations, rewards, terminated, truncated, _ = zip(*observed, strict=True)
        states = np.stack([_state(twin) for twin in twins])
        np.testing.assert_allclose(undisturbed.numpy(), states, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(
            timestep.observation.numpy(), np.stack(observations), rtol=1e-6, atol=1e-7
        )
        np.testing.assert_array_equal(timestep.reward.numpy(), np.float32(rewards))
        np.testing.assert_array_equal(timestep.terminated.numpy(), terminated)
        np.testing.assert_array_equal(timestep.truncated.numpy(), truncated)
        terminations += sum(terminated)
        truncations += sum(truncated)
        for i in np.flatnonzero(timestep.done.numpy()):
            assert episodes.elapsed.numpy()[i] == 0
            twins[i].reset()

    if dynamics.id.startswith("CartPole"):
        assert terminations > 100
    else:
        assert truncations > 10  # random actions rarely reach the goal


@each_environment
def test_goals_and_time_limits_end_episodes_as_in_gymnasium(dynamics: Dynamics) -> None:
    """A competent policy reaches the goals of MountainCar and Acrobot, and CartPole's limit."""
    environment, twin = BatchedEnvironment(dynamics), _gymnasium(dynamics.id)
    uniforms = tf.constant(np.full((1, dynamics.num_reset_uniforms), 0.6))
    step = tf.function(environment.step, jit_compile=True)
    episodes = environment.reset(uniforms)
    for _ in range(dynamics.max_episode_steps + 5):
        elapsed = int(episodes.elapsed[0]) + 1
        _set_state(twin, episodes.state.numpy()[0])
        action = _competent_action(dynamics.id, environment.observe(episodes).numpy()[0])
        episodes, timestep = step(episodes, tf.constant([action], tf.int32), uniforms)
        _, reward, terminated, truncated, _ = twin.step(action)
        assert timestep.reward.numpy()[0] == reward
        ended = (timestep.terminated.numpy()[0], timestep.truncated.numpy()[0])
        assert ended == (terminated, truncated)
        if terminated or truncated:
            break
    if dynamics.id.startswith("CartPole"):
        assert (terminated, truncated, elapsed) == (False, True, dynamics.max_episode_steps)
        assert timestep.discount.numpy()[0] == 1.0
    else:
        assert terminated
        assert elapsed < dynamics.max_episode_steps
        assert timestep.discount.numpy()[0] == 0.0


def _competent_action(env_id: str, observation: np.ndarray) -> int:
    if env_id.startswith("CartPole"):
        return int(observation @ np.array([0.1, 0.3, 1.0, 0.4]) > 0)
    if env_id == "MountainCar-v0":
        return 2 if observation[1] >= 0 else 0
    return 2 if observation[4] < 0 else 0  # Acrobot: pump energy into the upper link


@each_environment
def test_initial_states_have_gymnasiums_distribution(dynamics: Dynamics) -> None:
    rng = np.random.default_rng(1)
    ours = dynamics.reset(tf.constant(rng.random((4_000, dynamics.num_reset_uniforms))))
    twin = _gymnasium(dynamics.id)
    theirs = []
    for _ in range(4_000):
        twin.reset()
        theirs.append(np.array(twin.unwrapped.state))  # type: ignore[attr-defined]
    for mine, other in zip(ours.numpy().T, np.stack(theirs).T, strict=True):
        # Two-sample Kolmogorov-Smirnov test; 1.95 is the critical value at 0.1 %.
        grid = np.sort(np.concatenate([mine, other]))
        cdfs = [np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (mine, other)]
        assert np.abs(cdfs[0] - cdfs[1]).max() < 1.95 * np.sqrt(2 / 4_000)


@each_environment
def test_spaces_and_limits_are_gymnasiums(dynamics: Dynamics) -> None:
    twin = _gymnasium(dynamics.id)
    assert twin.observation_space.shape == (dynamics.observation_size,)
    assert isinstance(twin.action_space, gymnasium.spaces.Discrete)
    assert (twin.action_space.n, twin.action_space.start) == (dynamics.num_actions, 0)
    assert twin.spec is not None
    assert twin.spec.max_episode_steps == dynamics.max_episode_steps


@each_environment
def test_the_last_observation_is_the_true_one_and_the_next_episode_starts_fresh(
    dynamics: Dynamics,
) -> None:
    environment = BatchedEnvironment(dynamics)
    uniforms = tf.constant(np.full((1, dynamics.num_reset_uniforms), 0.5))
    episodes = environment.reset(uniforms)
    at_the_limit = episodes._replace(elapsed=tf.constant([dynamics.max_episode_steps - 1]))
    after, timestep = environment.step(at_the_limit, tf.constant([0]), uniforms)
    stepped, _, _ = dynamics.step(episodes.state, tf.constant([0]), NO_UNIFORMS[:1])
    np.testing.assert_array_equal(timestep.observation, dynamics.observe(stepped))
    np.testing.assert_array_equal(after.state, dynamics.reset(uniforms))
    assert timestep.truncated.numpy()[0]
    assert timestep.discount.numpy()[0] == 1.0


@dataclass(frozen=True)
class _DrawnWalk:
    """A walk whose initial states and steps are the uniform numbers that determine them."""

    id: str = "DrawnWalk-v0"
    max_episode_steps: int = 100
    observation_size: int = 1
    num_actions: int = 1
    state_size: int = 1
    num_reset_uniforms: int = 1
    num_step_uniforms: int = 2

    def reset(self, uniforms: Tensor) -> Tensor:
        return 100.0 + uniforms

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        following = state + uniforms[:, :1] + 10.0 * uniforms[:, 1:]
        return following, tf.zeros_like(action, tf.float32), following[:, 0] > 105.0

    def observe(self, state: Tensor) -> Tensor:
        return tf.cast(state, tf.float32)


def test_a_step_takes_the_numbers_of_a_reset_first_and_then_its_own() -> None:
    environment = BatchedEnvironment(_DrawnWalk())
    assert environment.num_uniforms == 3
    episodes = environment.reset(tf.constant([[0.25], [0.75]], tf.float64))
    np.testing.assert_array_equal(episodes.state, [[100.25], [100.75]])
    uniforms = tf.constant([[0.5, 0.25, 0.125], [0.5, 0.25, 0.75]], tf.float64)
    episodes, timestep = environment.step(episodes, tf.constant([0, 0]), uniforms)
    np.testing.assert_array_equal(timestep.observation, [[101.75], [108.5]])
    np.testing.assert_array_equal(timestep.done, [False, True])
    np.testing.assert_array_equal(episodes.state, [[101.75], [100.5]])


def test_environments_of_a_batch_end_and_restart_on_their_own() -> None:
    environment = BatchedEnvironment(GraphCorridor(length=3, max_episode_steps=100))
    nothing = tf.zeros([3, 1], tf.float64)
    started = EpisodeState(tf.constant([[0.0], [1.0], [2.0]], tf.float64), tf.constant([0, 1, 2]))
    episodes, seen = started, []
    for _ in range(4):
        episodes, timestep = environment.step(episodes, tf.zeros([3], tf.int32), nothing)
        assert timestep.reward.numpy().tolist() == [10.0] * 3
        np.testing.assert_array_equal(environment.observe(episodes), np.float32(episodes.state))
        seen.append(
            (timestep.observation[:, 0].numpy().tolist(), episodes.elapsed.numpy().tolist())
        )
    assert seen == [
        ([1, 2, 3], [1, 2, 0]),
        ([2, 3, 1], [2, 0, 1]),
        ([3, 1, 2], [0, 1, 2]),
        ([1, 2, 3], [1, 2, 0]),
    ]


def test_an_episode_may_terminate_at_its_time_limit_and_is_not_bootstrapped_then() -> None:
    environment = BatchedEnvironment(GraphCorridor(length=3, max_episode_steps=3))
    at_the_end = EpisodeState(tf.constant([[2.0]], tf.float64), tf.constant([2]))
    _, timestep = environment.step(at_the_end, tf.constant([0]), tf.zeros([1, 1], tf.float64))
    assert (timestep.terminated.numpy()[0], timestep.truncated.numpy()[0]) == (True, True)
    assert timestep.discount.numpy()[0] == 0.0


def test_discounts_are_zero_after_termination_alone() -> None:
    terminated = tf.constant([False, True, False, True])
    truncated = tf.constant([False, False, True, True])
    timestep = Timestep(tf.zeros([4, 1]), tf.zeros([4]), terminated, truncated)
    assert timestep.discount.dtype == tf.float32
    assert timestep.discount.numpy().tolist() == [1.0, 0.0, 1.0, 0.0]
    assert timestep.done.numpy().tolist() == [False, True, True, True]
