"""Playing of episodes step by step, with a frame of each state."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from dqnkit._system.tensorflow import compiled, tf
from dqnkit.agents.policies import SavedPolicy
from dqnkit.envs.rendering import RenderedEnvironment


@dataclass(frozen=True)
class RenderedStep:
    """The frame of a state, and the action that is chosen in it."""

    frame: np.ndarray
    """Frame of the state, uint8 [height, width, 3]."""
    episode: int
    """Number of the episode, from 1."""
    step: int
    """Number of steps that led to the state."""
    episode_return: float
    """Undiscounted return of these steps."""
    q_values: np.ndarray | None
    """Q-values of the state, float32 [num_actions]; None for a player that has none."""
    action: int | None
    """Action that is chosen, counted from 0; None if the episode is over."""
    ending: str = ""
    """Reason why the episode is over; empty before its last state."""


class Player(abc.ABC):
    """Chooses actions one by one."""

    @abc.abstractmethod
    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        """Choose an action.

        Args:
          observation: Observation, [*observation.shape].

        Returns:
          The action, counted from 0, and the Q-values [num_actions] that determined it, if any.
        """


class GreedyPlayer(Player):
    """Chooses the action with the highest Q-value of a saved policy, the first of equal ones."""

    def __init__(self, policy: SavedPolicy) -> None:
        observation = policy.spec.observation
        self._q_values = compiled(
            policy.q_values, tf.TensorSpec([1, *observation.shape], observation.dtype)
        )

    @override
    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        q_values = self._q_values(tf.constant(observation[None])).numpy()[0]
        return int(q_values.argmax()), q_values


class RandomPlayer(Player):
    """Chooses actions uniformly at random."""

    def __init__(self, num_actions: int, seed: int) -> None:
        self._num_actions = num_actions
        self._rng = np.random.default_rng(seed)

    @override
    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        del observation
        return int(self._rng.integers(self._num_actions)), None


def play(
    environment: RenderedEnvironment, player: Player, episode: int, seed: int, max_steps: int
) -> Iterator[RenderedStep]:
    """Play an episode; yield each of its states, from the initial to the last one.

    Args:
      environment: Environment that renders the frames.
      player: Player that chooses the actions.
      episode: Number of the episode, from 1.
      seed: Seed of the initial state.
      max_steps: Number of steps after which the episode is cut off.
    """
    observation = environment.reset(seed)
    step, total, ending = 0, 0.0, ""
    while not ending:
        action, q_values = player.act(observation)
        yield RenderedStep(environment.frame(), episode, step, total, q_values, action)
        observation, reward, terminated, truncated = environment.step(action)
        step, total = step + 1, total + reward
        if terminated:
            ending = "terminated"
        elif truncated:
            ending = "truncated: time limit"
        elif step >= max_steps:
            ending = f"cut off at {max_steps:,} steps"
    _, q_values = player.act(observation)
    yield RenderedStep(environment.frame(), episode, step, total, q_values, None, ending)
