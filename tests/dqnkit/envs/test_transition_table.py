from __future__ import annotations

from itertools import product
from typing import Any

import gymnasium
import numpy as np
import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.transition_table import TransitionTable, return_range, transition_table
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError

Outcome = tuple[float, int, float, bool]
"""Probability, next state, reward and terminated, as in Gymnasium's tables."""


def _random_table(seed: int) -> TransitionTable:
    """A process with rewards of both signs, terminal states, and outcomes of no probability."""
    rng = np.random.default_rng(seed)
    states, actions, outcomes = shape = (3, 2, 2)
    probability = rng.dirichlet(np.ones(outcomes), size=(states, actions))
    reward = rng.normal(size=shape) + rng.normal()
    impossible = rng.random((states, actions)) < 0.4
    probability[impossible] = np.eye(outcomes)[0]
    reward[impossible, 1:] = rng.choice([-1e3, 1e3])  # must not count
    return TransitionTable(
        probability,
        rng.integers(states, size=shape),
        reward,
        rng.random(shape) < 0.2,
        np.full(states, 1 / states),
        None,
    )


def _outcomes(table: TransitionTable, state: int, action: int) -> list[Outcome]:
    return [
        (
            table.probability[state, action, k],
            table.next_state[state, action, k],
            table.reward[state, action, k],
            table.terminated[state, action, k],
        )
        for k in range(table.probability.shape[2])
        if table.probability[state, action, k] > 0
    ]


def _solve(chain: list[list[Outcome]], gamma: float) -> np.ndarray:
    """Values of a Markov chain, given the outcomes of each state: a system of linear equations."""
    matrix, rewards = np.eye(len(chain)), np.zeros(len(chain))
    for state, outcomes in enumerate(chain):
        for probability, to, reward, terminated in outcomes:
            rewards[state] += probability * reward
            if not terminated:
                matrix[state, to] -= gamma * probability
    return np.linalg.solve(matrix, rewards)


def _brute_force_range(table: TransitionTable, gamma: float) -> tuple[float, float]:
    """The range by all policies, and for its upper end by all choices of outcomes as well."""
    num_states, num_actions, _ = table.probability.shape
    states, actions = range(num_states), range(num_actions)
    values = np.max(
        [
            _solve([_outcomes(table, s, policy[s]) for s in states], gamma)
            for policy in product(actions, repeat=num_states)
        ],
        axis=0,
    )
    worst = min(
        reward + (0.0 if terminated else gamma * values[to])
        for s in states
        for a in actions
        for _, to, reward, terminated in _outcomes(table, s, a)
    )
    choices = [[o for a in actions for o in _outcomes(table, s, a)] for s in states]
    best = max(
        _solve([[(1.0, *outcome[1:])] for outcome in chosen], gamma).max()
        for chosen in product(*choices)
    )
    return min(0.0, worst), max(0.0, best)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(8))
def test_the_range_of_returns_is_that_of_all_policies_and_outcomes(seed: int, gamma: float) -> None:
    table = _random_table(seed)
    expected = _brute_force_range(table, gamma)
    np.testing.assert_allclose(return_range(table, gamma), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("reward", "expected"), [(1.0, (0.0, 10.0)), (-1.0, (-10.0, 0.0))])
def test_the_range_of_a_reward_for_ever_includes_zero(
    reward: float, expected: tuple[float, float]
) -> None:
    one = np.ones((1, 1, 1))
    table = TransitionTable(one, np.zeros((1, 1, 1), int), one * reward, one < 0, one[0, 0], None)
    assert return_range(table, 0.9) == pytest.approx(expected)


def test_a_reward_at_the_end_counts_once() -> None:
    one = np.ones((1, 1, 1))
    table = TransitionTable(one, np.zeros((1, 1, 1), int), one * 5.0, one > 0, one[0, 0], None)
    assert return_range(table, 0.9) == pytest.approx((0.0, 5.0))


def test_the_table_of_a_small_lake_is_the_one_worked_out_by_hand() -> None:
    left, down, right, up = range(4)
    start, ice, hole, goal = range(4)
    kwargs = {"desc": ["SF", "HG"], "is_slippery": False}
    table = transition_table(EnvConfig(id="FrozenLake-v1", kwargs=kwargs))
    assert table.next_state.shape == (4, 4, 1)
    assert table.next_state[start, [left, down, right, up], 0].tolist() == [0, hole, ice, 0]
    assert table.next_state[ice, [left, down, right, up], 0].tolist() == [start, goal, ice, ice]
    assert table.terminated[start, [left, down, right, up], 0].tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert table.reward.sum() == table.reward[ice, down, 0] == 1.0
    assert (table.probability == 1.0).all()
    assert table.initial_probability.tolist() == [1.0, 0.0, 0.0, 0.0]
    dtypes = [column.dtype.name for column in table[:5]]
    assert dtypes == ["float64", "int64", "float64", "bool", "float64"]
    assert return_range(table, 0.9) == pytest.approx((0.0, 1.0))


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalkingSlippery-v1", "Taxi-v4"])
def test_probabilities_add_up_and_missing_outcomes_have_none(env_id: str) -> None:
    table = transition_table(EnvConfig(id=env_id))
    np.testing.assert_allclose(table.probability.sum(axis=2), 1.0, rtol=1e-12)
    assert table.initial_probability.sum() == pytest.approx(1.0)
    process: Any = gymnasium.make(env_id).unwrapped
    for state, actions in process.P.items():
        for action, outcomes in actions.items():
            assert (table.probability[state, action, len(outcomes) :] == 0.0).all()
            found = list(
                zip(*(column[state, action, : len(outcomes)] for column in table[:4]), strict=True)
            )
            assert found == [tuple(outcome) for outcome in outcomes]


@pytest.mark.parametrize(("given", "limit"), [({}, 100), ({"max_episode_steps": 7}, 7)])
def test_the_time_limit_is_that_of_the_environment(given: dict[str, Any], limit: int) -> None:
    table = transition_table(EnvConfig(id="FrozenLake-v1", kwargs=given))
    assert table.max_episode_steps == limit


def test_actions_with_fewer_outcomes_than_others_are_padded() -> None:
    class Uneven(gymnasium.Env[int, int]):
        observation_space = gymnasium.spaces.Discrete(2)
        action_space = gymnasium.spaces.Discrete(2)
        initial_state_distrib = (0.25, 0.75)
        P = {  # noqa: RUF012 - as in Gymnasium
            0: {0: [(1.0, 1, -2.0, False)], 1: [(0.5, 0, 0.0, False), (0.5, 1, 3.0, True)]},
            1: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 0, 1.0, False)]},
        }

    gymnasium.register("Uneven-v0", entry_point=Uneven)
    table = transition_table(EnvConfig(id="Uneven-v0"))
    assert table.probability.tolist() == [[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]]]
    assert table.next_state[0].tolist() == [[1, 0], [0, 1]]
    assert table.terminated[0].tolist() == [[False, False], [False, True]]
    assert table.initial_probability.tolist() == [0.25, 0.75]
    assert table.max_episode_steps is None
    # Both states are worth 2. The worst step costs 2 and leads to the second one: -2 + 0.5 * 2.
    assert return_range(table, 0.5) == pytest.approx((-1.0, 3.0))


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_the_environments_fault(reward: float) -> None:
    class Infinite(gymnasium.Env[int, int]):
        observation_space = gymnasium.spaces.Discrete(1)
        action_space = gymnasium.spaces.Discrete(1)
        initial_state_distrib = (1.0,)
        P = {0: {0: [(1.0, 0, reward, False)]}}  # noqa: RUF012 - as in Gymnasium

    env_id = f"Infinite{reward}-v0"
    gymnasium.register(env_id, entry_point=Infinite)
    with pytest.raises(EnvironmentFailedError, match="reward that is not finite"):
        transition_table(EnvConfig(id=env_id))


def test_an_environment_that_cannot_be_created_is_explained() -> None:
    with pytest.raises(UnsupportedEnvironmentError, match="did you mean 'FrozenLake-v1'"):
        transition_table(EnvConfig(id="FrozenLak-v1"))
