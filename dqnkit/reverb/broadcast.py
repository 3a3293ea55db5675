"""How a learner and its actors hear of each other: through tables beside the replay."""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

import numpy as np

from dqnkit._system.stderr import quiet_stderr
from dqnkit.errors import ReplayError
from dqnkit.reverb.connection import ServerConnection, explained
from dqnkit.reverb.tables import EPISODES, LEARNER

_READ_SECONDS = 5.0


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

    def __init__(self, server: ServerConnection, config: str) -> None:
        """Says nothing yet.

        Args:
          server: That has the tables.
          config: `config.yaml` of the run.
        """
        self._server = server
        self._config = np.frombuffer(config.encode(), np.uint8)

    def publish(
        self, weights: np.ndarray, env_steps: int, priority: float, *, is_over: bool = False
    ) -> None:
        """Takes the place of what was said before."""
        numbers = np.array([env_steps, priority, is_over], np.float64)
        said, client = [self._config, weights, numbers], self._server.client
        self._server.call(lambda: client.insert(said, {LEARNER: 1.0}))

    def withdraw(self) -> None:
        """Leaves actors without a learner, for which they wait."""
        client = self._server.client
        self._server.call(lambda: client.reset(LEARNER), _Soon(), again=False)

    def episodes(self) -> list[tuple[float, float]]:
        """Returns and lengths of those that ended since the last call, less what a server lost."""
        count, client = self._server.info(EPISODES).current_size, self._server.client
        if not count:
            return []
        given_up = _Soon()
        with contextlib.suppress(ReplayError), quiet_stderr():  # it tells how it connects
            # Each can be read once: a second try would wait for what a first has read.
            read = self._server.call(
                lambda: list(client.sample(EPISODES, count, emit_timesteps=False)),
                given_up,
                again=False,
            )
            return [tuple(item.data[0].reshape(2).tolist()) for item in read]
        return []


class _Soon:
    """Gives up a server that was there a moment ago, and has lost what it had, or is gone."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _READ_SECONDS

    def __call__(self) -> None:
        if time.monotonic() > self._until:
            raise ReplayError("the replay server does not answer any more, or was started anew")


class Subscriber:
    """An actor's side."""

    def __init__(self, server: ServerConnection) -> None:
        """Connects.

        Args:
          server: That has the tables.
        """
        self._server = server
        self._writer: Any = server.call(lambda: server.client.trajectory_writer(1))

    def latest(self) -> Broadcast | None:
        """What the learner said last; None before it said anything."""
        if not self._server.info(LEARNER).current_size:
            return None
        client = self._server.client
        (item,) = self._server.call(
            lambda: list(client.sample(LEARNER, 1, emit_timesteps=False)), _Soon()
        )
        config, weights, numbers = (column[0] for column in item.data)
        env_steps, priority, is_over = numbers.tolist()
        return Broadcast(bytes(config).decode(), weights, int(env_steps), priority, bool(is_over))

    def wait(self, seconds: float) -> Broadcast | None:
        """As `latest`, once there is anything; None if nothing comes for so long."""
        until = time.monotonic() + seconds
        while (said := self.latest()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return said

    def ended(self, undiscounted_return: float, length: float) -> None:
        """Tells of an episode; not whether that has come."""
        with explained(self._server.address):
            self._writer.append({"episode": np.array([undiscounted_return, length])})
            last = {"episode": self._writer.history["episode"][-1]}
            self._writer.create_item(EPISODES, 1.0, last)

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(RuntimeError):  # the server is gone
            self._writer.close()
