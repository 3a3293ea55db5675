"""Transition tables of Gymnasium's toy-text environments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import factory
from dqnkit.errors import EnvironmentFailedError


class TransitionTable(NamedTuple):
    """A finite Markov decision process: S states, A actions, at most K outcomes of each."""

    probability: np.ndarray
    """Probabilities of the outcomes, float64 [S, A, K]; 0 where there are fewer than K."""
    next_state: np.ndarray
    """Next states, int64 [S, A, K]."""
    reward: np.ndarray
    """Rewards, float64 [S, A, K]."""
    terminated: np.ndarray
    """True where the next state is terminal, bool [S, A, K]."""
    initial_probability: np.ndarray
    """Probabilities of the initial states, float64 [S]."""
    max_episode_steps: int | None
    """Time limit; None if there is none."""


def transition_table(config: EnvConfig) -> TransitionTable:
    """Read the transition table of a toy-text environment.

    Raises:
      EnvironmentFailedError: If a reward is not finite.
      UnsupportedEnvironmentError: If the environment cannot be created.
    """
    env = factory.make_env(config)
    with contextlib.closing(env):
        process: Any = env.unwrapped
        limit = env.spec.max_episode_steps if env.spec else None
        outcomes, initial = process.P, np.asarray(process.initial_state_distrib, np.float64)
    probability, next_state, reward, terminated = _columns(outcomes)
    if not np.isfinite(reward).all():
        raise EnvironmentFailedError(
            f"{config.id!r} has a reward that is not finite in its transition table; fix the "
            "environment, or its env.kwargs"
        )
    return TransitionTable(
        probability,
        next_state.astype(np.int64),
        reward,
        terminated.astype(np.bool_),
        initial,
        limit,
    )


def _columns(outcomes: dict[int, dict[int, list[tuple[Any, ...]]]]) -> list[np.ndarray]:
    """Return the columns of the outcomes, float64 [S, A, K] each."""
    num_states, num_actions = len(outcomes), len(outcomes[0])
    most = max(len(branches) for actions in outcomes.values() for branches in actions.values())
    columns = [np.zeros((num_states, num_actions, most)) for _ in range(4)]
    for state, actions in outcomes.items():
        for action, branches in actions.items():
            for index, branch in enumerate(branches):
                for column, value in zip(columns, branch, strict=True):
                    column[state, action, index] = value
    return columns


def return_range(table: TransitionTable, gamma: float) -> tuple[float, float]:
    """Return bounds of the discounted return, extended to include 0.

    The lower bound is the value of the worst possible transition: any action in any state, with the
    optimal policy afterwards. The upper bound is the greatest return of any possible trajectory.

    Args:
      table: Transition table of the process.
      gamma: Discount, below 1.
    """
    possible = table.probability > 0
    discount = np.where(table.terminated, 0.0, gamma)

    def outcome_values(state_values: np.ndarray) -> np.ndarray:
        values: np.ndarray = table.reward + discount * state_values[table.next_state]
        return values

    def expected_backup(state_values: np.ndarray) -> np.ndarray:
        expected = (table.probability * outcome_values(state_values)).sum(axis=2)
        best: np.ndarray = expected.max(axis=1)
        return best

    def luckiest_backup(state_values: np.ndarray) -> np.ndarray:
        values = np.where(possible, outcome_values(state_values), -np.inf)
        best: np.ndarray = values.max(axis=(1, 2))
        return best

    def fixed_point(backup: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        values = np.zeros(len(table.reward))
        while np.abs((new := backup(values)) - values).max() > 1e-9 * (1.0 + np.abs(new).max()):
            values = new
        return new

    low = outcome_values(fixed_point(expected_backup))[possible].min()
    high = fixed_point(luckiest_backup).max()
    return min(0.0, float(low)), max(0.0, float(high))
