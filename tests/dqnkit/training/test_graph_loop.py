from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from dqnkit.config import Config
from dqnkit.envs import registry
from dqnkit.envs.dynamics import Dynamics
from dqnkit.errors import ConfigError
from dqnkit.runtime import Tensor, tf
from dqnkit.training.graph_loop import GraphLoop
from dqnkit.training.loop import Arrays

Small = Callable[..., Config]


@dataclass(frozen=True)
class Corridor:
    """A deterministic walk: the state counts up by 1 and terminates at `length`; reward 10 a step.

    Its observations are the states, so that every stored transition can be told by eye.
    """

    id: str = "Corridor-v0"
    length: int = 5
    max_episode_steps: int = 1_000
    observation_size: int = 1
    num_actions: int = 3
    state_size: int = 1
    num_reset_uniforms: int = 1

    def reset(self, uniforms: Tensor) -> Tensor:
        return tf.zeros_like(uniforms)

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        following = state + 1.0
        reward = tf.fill([tf.shape(state)[0]], 10.0)
        return following, reward, following[:, 0] >= self.length

    def observe(self, state: Tensor) -> Tensor:
        return tf.cast(state, tf.float32)


def _stored(loop: GraphLoop) -> np.ndarray:
    """Rows (observation, action, reward, discount, next observation) of a Corridor's replay."""
    return next(v for k, v in loop.state().items() if k == loop._table_key)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_terminal_state_has_discount_zero_and_no_transition_crosses_a_reset(
    small: Small, num_envs: int
) -> None:
    loop = GraphLoop(small(f"env.num_envs={num_envs}"), Corridor())
    loop.start()
    loop.advance(40)
    rows = _stored(loop)
    assert len(rows) == loop.env_steps
    observation, _, reward, discount, following = rows.T
    np.testing.assert_array_equal(following, observation + 1.0)
    np.testing.assert_array_equal(discount, np.where(following == 5.0, 0.0, 1.0))
    np.testing.assert_array_equal(reward, 10.0)
    assert set(observation) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_a_time_limit_keeps_its_discount_and_its_true_last_observation(small: Small) -> None:
    loop = GraphLoop(small(), Corridor(length=1_000, max_episode_steps=3))
    loop.start()
    observation, _, _, discount, following = _stored(loop).T
    np.testing.assert_array_equal(observation, np.arange(20) % 3)
    np.testing.assert_array_equal(following, observation + 1.0)  # 3 after the limit, never 0
    np.testing.assert_array_equal(discount, 1.0)


def test_an_end_that_is_both_terminal_and_truncated_is_terminal(small: Small) -> None:
    loop = GraphLoop(small(), Corridor(length=3, max_episode_steps=3))
    loop.start()
    observation, _, _, discount, _ = _stored(loop).T
    np.testing.assert_array_equal(discount, np.where(observation == 2.0, 0.0, 1.0))


@dataclass(frozen=True)
class OneHotCorridor(Corridor):
    """A Corridor whose Q-function is a table."""

    observation_size: int = 6

    def observe(self, state: Tensor) -> Tensor:
        return tf.one_hot(tf.cast(state[:, 0], tf.int32), self.observation_size)


@dataclass(frozen=True)
class BlindCorridor(Corridor):
    """A Corridor that always looks the same."""

    def observe(self, state: Tensor) -> Tensor:
        return tf.ones_like(state, tf.float32)


def _trained(config: Config, dynamics: Dynamics) -> GraphLoop:
    loop = GraphLoop(config, dynamics)
    loop.start()
    loop.advance(3_000)
    return loop


TABULAR = (
    "agent.gamma=0.5",
    "agent.target_update_period=10",
    "network.fc_layer_params=[]",
    "optimizer.learning_rate=0.05",
    "training.batch_size=32",
)


def test_q_values_converge_to_the_discounted_sum_of_rewards(small: Small) -> None:
    """From 4 the reward alone: a terminal state that was bootstrapped from would give more."""
    loop = _trained(small(*TABULAR), OneHotCorridor())
    values = loop.learner.q_values(tf.one_hot([4, 3, 2, 1, 0], 6)).numpy()
    expected = [10.0, 15.0, 17.5, 18.75, 19.375]  # 10 + 0.5 * the next
    np.testing.assert_allclose(values.max(axis=1), expected, rtol=1e-3)


def test_rewards_go_on_behind_a_time_limit(small: Small) -> None:
    loop = _trained(small(*TABULAR), BlindCorridor(length=1_000, max_episode_steps=5))
    values = loop.learner.q_values(tf.constant([[1.0]])).numpy()
    np.testing.assert_allclose(values.max(), 20.0, rtol=1e-3)  # 10 / (1 - 0.5)


def test_how_training_is_cut_into_chunks_changes_nothing(small: Small) -> None:
    loop = GraphLoop(small("training.log_interval=7"), registry.make("CartPole-v1"))
    loop.start()
    start = loop.state()
    expected, whole = loop.advance(60), loop.state()
    assert [m.iteration for m in expected] == list(range(7, 60, 7))
    for chunks in ([1] * 60, [7, 20, 33]):
        loop.restore(start)
        metrics = [m for chunk in chunks for m in loop.advance(chunk)]
        assert repr(metrics) == repr(expected)  # repr, because NaN differs from itself
        _assert_same(whole, loop.state())


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_a_restored_loop_goes_on_bit_for_bit(small: Small, env_id: str) -> None:
    config, dynamics = small("env.num_envs=2"), registry.make(env_id)
    straight, restored = GraphLoop(config, dynamics), GraphLoop(config, dynamics)
    straight.start()
    straight.advance(25)
    restored.restore(straight.state())
    straight.advance(35)
    restored.start()
    restored.advance(35)
    _assert_same(straight.state(), restored.state())


def test_seeds_decide_everything(small: Small) -> None:
    states = []
    for seed in (1, 1, 2):
        loop = GraphLoop(small(f"training.seed={seed}"), registry.make("CartPole-v1"))
        loop.start()
        loop.advance(30)
        states.append(loop.state())
    _assert_same(states[0], states[1])
    for name in ("agent/online/0", loop._table_key):
        assert not np.array_equal(states[0][name], states[2][name])


def test_counters_and_metrics_are_those_of_the_corridor(small: Small) -> None:
    config = small(
        "env.num_envs=2",
        "training.collect_steps_per_iteration=3",
        "training.gradient_steps_per_iteration=2",
        "training.initial_collect_steps=10",
        "exploration.schedule=linear",
        "exploration.initial_epsilon=1.0",
        "exploration.epsilon=0.0",
        "exploration.decay_steps=130",
    )
    loop = GraphLoop(config, Corridor())
    loop.start()
    assert loop.env_steps == 10
    first, second = loop.advance(20)
    assert (first.iteration, first.env_steps) == (10, 10 + 10 * 6)
    assert (second.iteration, second.env_steps) == (20, 10 + 20 * 6)
    # Ten initial steps end the first episodes of both environments; each later one takes 5 steps.
    assert first.episodes == second.episodes == 12
    assert (first.return_mean, first.length_mean) == (50.0, 5.0)
    # Vector steps at 10, 12, ..., 68: their mean is 39.
    assert first.epsilon == pytest.approx(1.0 - 39 / 130)
    assert second.epsilon == pytest.approx(1.0 - 99 / 130)
    assert int(loop.learner.agent.train_step_counter) == 40


def test_epsilon_zero_acts_greedily_and_one_acts_uniformly(small: Small) -> None:
    settings = ("training.initial_collect_steps=1", "replay.replay_buffer_max_length=5000")
    still = ("training.gradient_steps_per_iteration=0", *settings)
    greedy = GraphLoop(small("exploration.epsilon=0", *still), Corridor())
    greedy.start()
    greedy.advance(50)
    rows = _stored(greedy)[1:]
    expected = greedy.learner.greedy_actions(tf.constant(rows[:, :1])).numpy()
    np.testing.assert_array_equal(rows[:, 1], expected)

    random = GraphLoop(small("exploration.epsilon=1", *still), Corridor())
    random.start()
    random.advance(3_000)
    counts = np.bincount(_stored(random)[:, 1].astype(int), minlength=3)
    # Pearson's chi-squared; 18.4 is the 0.01 % critical value at 2 degrees of freedom.
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 18.4


def test_a_log_interval_that_is_broken_off_is_not_lost(small: Small) -> None:
    loop = GraphLoop(small("training.log_interval=50"), Corridor())
    loop.start()
    assert loop.flush() == []
    assert loop.advance(20) == []
    (rest,) = loop.flush()
    assert (rest.iteration, rest.env_steps, rest.episodes) == (20, 40, 4)
    assert np.isfinite(rest.loss)
    assert loop.flush() == []


def test_a_foreign_state_is_refused(small: Small) -> None:
    loop = GraphLoop(small(), Corridor())
    with pytest.raises(ConfigError, match="loop/0"):
        loop.restore({"a": np.zeros(3)})


def test_a_replay_beyond_all_memory_is_refused_with_its_size(small: Small) -> None:
    with pytest.raises(ConfigError, match=r"needs [\d,]+ GiB, and this machine has"):
        GraphLoop(small("replay.replay_buffer_max_length=1e12"), Corridor())


def test_without_gradient_steps_nothing_is_learned(small: Small) -> None:
    loop = GraphLoop(small("training.gradient_steps_per_iteration=0"), Corridor())
    before = loop.policy_weights()
    loop.start()
    metrics = loop.advance(10)
    for old, new in zip(before, loop.policy_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.isnan(metrics[0].loss)


def _assert_same(mine: Arrays, other: Arrays) -> None:
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
