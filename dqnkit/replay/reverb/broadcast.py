"""How a learner and its actors hear of each other: through tables beside the replay."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from dqnkit.noise import quiet
from dqnkit.replay.reverb.tables import EPISODES, LEARNER


class Episode(NamedTuple):
    """What an actor has seen end."""

    undiscounted_return: float
    length: float


class Broadcast(NamedTuple):
    """What a learner tells its actors."""

    config: str
    """`config.yaml` of the run."""
    weights: np.ndarray
    """Of the online network, float32 [n]."""
    env_steps: int
    """Of all actors, until now."""
    priority: float
    """Of new transitions."""
    is_over: bool
    """Whether the run is complete."""


class Publisher:
    """The learner's side."""

    def __init__(self, client: Any, config: str) -> None:
        """Says nothing yet.

        Args:
          client: Of `reverb.Client`.
          config: `config.yaml` of the run.
        """
        self._client = client
        self._config = np.frombuffer(config.encode(), np.uint8)

    def publish(
        self, weights: np.ndarray, env_steps: int, priority: float, *, is_over: bool = False
    ) -> None:
        """Takes the place of what was said before."""
        numbers = np.array([env_steps, priority, is_over], np.float64)
        self._client.insert([self._config, weights, numbers], {LEARNER: 1.0})

    def episodes(self) -> list[Episode]:
        """Those that have ended since the last call."""
        count = self._client.server_info()[EPISODES].current_size
        if not count:
            return []
        with quiet():  # it tells how it connects
            read = list(self._client.sample(EPISODES, count, emit_timesteps=False))
        return [Episode(*item.data[0].reshape(2).tolist()) for item in read]


class Listener:
    """An actor's side."""

    def __init__(self, client: Any) -> None:
        """Connects.

        Args:
          client: Of `reverb.Client`.
        """
        self._client = client
        self._writer = client.trajectory_writer(1)

    def latest(self) -> Broadcast | None:
        """What the learner said last; None before it said anything."""
        if not self._client.server_info()[LEARNER].current_size:
            return None
        (item,) = self._client.sample(LEARNER, 1, emit_timesteps=False)
        config, weights, numbers = (column[0] for column in item.data)
        env_steps, priority, is_over = numbers.tolist()
        return Broadcast(bytes(config).decode(), weights, int(env_steps), priority, bool(is_over))

    def wait(self, seconds: float) -> Broadcast | None:
        """As `latest`, once there is anything; None if nothing comes for so long."""
        until = time.monotonic() + seconds
        while (said := self.latest()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return said

    def ended(self, episode: Episode) -> None:
        """Tells of an episode."""
        self._writer.append({"episode": np.array(episode, np.float64)})
        self._writer.create_item(EPISODES, 1.0, {"episode": self._writer.history["episode"][-1]})
        self._writer.flush(block_until_num_items=100)

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
