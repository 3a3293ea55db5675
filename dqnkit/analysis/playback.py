"""Episodes as they are played for a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dqnkit._system.tensorflow import compiled, tf
from dqnkit.agents.policies import SavedPolicy
from dqnkit.envs.rendering import RenderedEnvironment


@dataclass(frozen=True)
class RenderedStep:
    """A state that was drawn, and what the policy makes of it."""

    frame: np.ndarray
    """uint8 [height, width, 3]."""
    episode: int
    """From 1."""
    step: int
    """Steps that led here."""
    episode_return: float
    """Undiscounted, of these steps."""
    q_values: np.ndarray | None
    """float32 [num_actions]; None for a policy that has none."""
    action: int | None
    """What is chosen here, counted from 0; None where the episode is over."""
    ending: str = ""
    """How the episode ended, where it did."""


class Player(Protocol):
    """Chooses actions one by one."""

    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        """An action, counted from 0, and the Q-values that it was chosen by."""


class GreedyPlayer:
    """Acts by a saved policy (`Player`)."""

    def __init__(self, policy: SavedPolicy) -> None:
        observation = policy.spec.observation
        self._q_values = compiled(
            policy.q_values, tf.TensorSpec([1, *observation.shape], observation.dtype)
        )

    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        """See `Player`: the first of the highest."""
        q_values = self._q_values(tf.constant(observation[None])).numpy()[0]
        return int(q_values.argmax()), q_values


class RandomPlayer:
    """Acts uniformly at random (`Player`)."""

    def __init__(self, num_actions: int, seed: int) -> None:
        self._num_actions = num_actions
        self._rng = np.random.default_rng(seed)

    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        """See `Player`."""
        del observation
        return int(self._rng.integers(self._num_actions)), None


def play(
    environment: RenderedEnvironment, actor: Player, episode: int, seed: int, max_steps: int
) -> Iterator[RenderedStep]:
    """One episode, a moment a state: the first one, those between, and the last.

    Args:
      environment: Where.
      actor: Who.
      episode: Its number, from 1.
      seed: Of its initial state.
      max_steps: Where it is broken off.
    """
    observation = environment.reset(seed)
    step, total, ending = 0, 0.0, ""
    while not ending:
        action, q_values = actor.act(observation)
        yield RenderedStep(environment.frame(), episode, step, total, q_values, action)
        observation, reward, terminated, truncated = environment.step(action)
        step, total = step + 1, total + reward
        if terminated:
            ending = "terminated"
        elif truncated:
            ending = "truncated: time limit"
        elif step >= max_steps:
            ending = f"broken off at {max_steps:,} steps"
    _, q_values = actor.act(observation)
    yield RenderedStep(environment.frame(), episode, step, total, q_values, None, ending)
