"""Environments and players without Gymnasium and policies, for tests of what a video shows."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from dqnkit.analysis.playback import Player
from dqnkit.envs.rendering import RenderedEnvironment


class Countdown:
    """An environment that ends after some steps; each frame is filled with the state's number."""

    def __init__(
        self, length: int, *, truncates: bool = False, shape: tuple[int, int] = (4, 6)
    ) -> None:
        self.seeds: list[int] = []
        self.actions: list[int] = []
        self._length = length
        self._truncates = truncates
        self._shape = shape

    def reset(self, seed: int) -> np.ndarray:
        self.seeds.append(seed)
        self._state = 0
        return self._observation

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        self.actions.append(action)
        self._state += 1
        ends = self._state >= self._length
        return self._observation, 0.5, ends and not self._truncates, ends and self._truncates

    def frame(self) -> np.ndarray:
        return np.full((*self._shape, 3), self._state % 256, np.uint8)

    @property
    def _observation(self) -> np.ndarray:
        return np.array([self._state], np.float32)


class Alternating(Player):
    """Chooses the parity of the observation, by Q-values that say so."""

    def act(self, observation: np.ndarray) -> tuple[int, np.ndarray | None]:
        action = int(observation[0]) % 2
        return action, np.eye(2, dtype=np.float32)[action]


def rendered(environment: Any) -> RenderedEnvironment:
    """Return a double with the type that `play` expects."""
    return cast("RenderedEnvironment", environment)
