"""Transition tables, as Gymnasium's toy-text environments have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import factory
from dqnkit.errors import EnvironmentFailedError


class TransitionTable(NamedTuple):
    """A finite Markov decision process: S states, A actions, at most K outcomes of each."""

    probability: np.ndarray
    """float64 [S, A, K]; 0 where there are fewer outcomes."""
    next_state: np.ndarray
    """int64 [S, A, K]."""
    reward: np.ndarray
    """float64 [S, A, K]."""
    terminated: np.ndarray
    """bool [S, A, K]."""
    initial_probability: np.ndarray
    """float64 [S]."""
    max_episode_steps: int | None


def transition_table(config: EnvConfig) -> TransitionTable:
    """The table of a Gymnasium environment that has one, as its toy-text environments do."""
    env = factory.make_env(config)
    process: Any = env.unwrapped
    num_states = len(process.P)
    num_actions = len(process.P[0])
    outcomes = max(len(process.P[s][a]) for s in process.P for a in process.P[s])
    columns = [np.zeros((num_states, num_actions, outcomes)) for _ in range(4)]
    for state, actions in process.P.items():
        for action, branches in actions.items():
            for index, branch in enumerate(branches):
                for column, value in zip(columns, branch, strict=True):
                    column[state, action, index] = value
    probability, next_state, reward, terminated = columns
    if not np.isfinite(reward).all():
        raise EnvironmentFailedError(
            f"{config.id!r} has a reward that is not finite in its table of transitions; mend the "
            "environment, or its env.kwargs"
        )
    limit = env.spec.max_episode_steps if env.spec else None
    env.close()
    return TransitionTable(
        probability,
        next_state.astype(np.int64),
        reward,
        terminated.astype(np.bool_),
        np.asarray(process.initial_state_distrib, np.float64),
        limit,
    )


def return_range(table: TransitionTable, gamma: float) -> tuple[float, float]:
    """Least and greatest discounted return of a step of any kind with good play behind it.

    Good play has luck as well for the greatest one, and none in that step for the least one.

    Args:
      table: Of the process.
      gamma: Discount, below 1.
    """
    possible = table.probability > 0
    goes_on = np.where(table.terminated, 0.0, gamma)

    def converged(backup: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        values = np.zeros(len(table.reward))
        while np.abs((new := backup(values)) - values).max() > 1e-9 * (1.0 + np.abs(new).max()):
            values = new
        return new

    def outcomes(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = table.reward + goes_on * values[table.next_state]
        return found

    def expected(values: np.ndarray) -> np.ndarray:
        best: np.ndarray = (table.probability * outcomes(values)).sum(axis=2).max(axis=1)
        return best

    def lucky(values: np.ndarray) -> np.ndarray:
        best: np.ndarray = np.where(possible, outcomes(values), -np.inf).max(axis=(1, 2))
        return best

    low = outcomes(converged(expected))[possible].min()
    return min(0.0, float(low)), max(0.0, float(converged(lucky).max()))
