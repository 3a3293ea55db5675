"""Random episodes for a replay, and the transitions that it should then hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dqnkit.replay.base import HostReplay


@dataclass
class Oracle:
    """All transitions that were added, in a list per environment, with the frames of the stack."""

    stack: int
    history: list[list[np.ndarray]] = field(default_factory=list)
    transitions: list[list[tuple[list[float], int, float, float]]] = field(default_factory=list)

    def begin(self, env: int, frame: np.ndarray) -> None:
        while len(self.history) <= env:
            self.history.append([])
            self.transitions.append([])
        self.history[env] = [frame] * self.stack

    def add(self, env: int, action: int, reward: float, terminal: bool, frame: np.ndarray) -> None:
        self.history[env].append(frame)
        numbers = [float(f.flat[0]) for f in self.history[env][-self.stack - 1 :]]
        self.transitions[env].append((numbers, action, reward, float(not terminal)))


def play(
    replay: HostReplay, oracle: Oracle, num_envs: int, steps: int, seed: int
) -> np.random.Generator:
    """Play random episodes in which every frame is a different number."""
    rng = np.random.default_rng(seed)
    number = 0

    def frames(count: int) -> np.ndarray:
        nonlocal number
        number += count
        numbers = np.arange(number - count, number, dtype=np.float32)
        return np.repeat(numbers[:, None], 2, axis=1)

    first = frames(num_envs)
    replay.begin(np.arange(num_envs), first)
    for env in range(num_envs):
        oracle.begin(env, first[env])
    for _ in range(steps):
        envs = np.flatnonzero(rng.random(num_envs) < 0.8)  # the others are being reset
        actions, rewards = rng.integers(3, size=envs.size), rng.random(envs.size, np.float32)
        terminal, ended = rng.random(envs.size) < 0.15, rng.random(envs.size) < 0.1
        following = frames(envs.size)
        replay.add(envs, actions, rewards, terminal, following)
        for i, env in enumerate(envs):
            oracle.add(env, actions[i], rewards[i], terminal[i], following[i])
        begun = envs[terminal | ended]
        first = frames(begun.size)
        replay.begin(begun, first)
        for i, env in enumerate(begun):
            oracle.begin(env, first[i])
    return rng
