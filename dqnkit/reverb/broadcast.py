"""Messages between a learner and its actors, through tables beside the replay."""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

import numpy as np

from dqnkit._system.stderr import quiet_stderr
from dqnkit.errors import ReplayError
from dqnkit.reverb.connection import ServerConnection, translate_errors
from dqnkit.reverb.tables import EPISODES, LEARNER

_READ_SECONDS = 5.0


class LearnerState(NamedTuple):
    """The state of a learner that its actors need."""

    config: str
    """The run's `config.yaml`."""
    weights: np.ndarray
    """Weights of the online network, float32 [n]."""
    env_steps: int
    """Environment steps of all actors so far."""
    priority: float
    """Priority of new transitions."""
    is_over: bool
    """True if the run is complete."""


class Publisher:
    """The learner's side: publishes its state and collects the actors' episodes."""

    def __init__(self, server: ServerConnection, config: str) -> None:
        """Set the server and the configuration to publish.

        Args:
          server: Connection to the server that has the tables.
          config: The run's `config.yaml`.
        """
        self._server = server
        self._config = np.frombuffer(config.encode(), np.uint8)

    def publish(
        self, weights: np.ndarray, env_steps: int, priority: float, *, is_over: bool = False
    ) -> None:
        """Replace the published state; the arguments are the fields of `LearnerState`."""
        numbers = np.array([env_steps, priority, is_over], np.float64)
        state, client = [self._config, weights, numbers], self._server.client
        self._server.call(lambda: client.insert(state, {LEARNER: 1.0}))

    def withdraw(self) -> None:
        """Remove the published state: actors then wait for another learner."""
        client = self._server.client
        self._server.call(lambda: client.reset(LEARNER), _ReadTimeout(), retry=False)

    def episodes(self) -> list[tuple[float, float]]:
        """Return the episodes that ended since the last call, as (return, length).

        Episodes that a server has lost are missing.
        """
        count, client = self._server.info(EPISODES).current_size, self._server.client
        if not count:
            return []
        timeout = _ReadTimeout()
        with contextlib.suppress(ReplayError), quiet_stderr():  # Reverb logs the connection
            # An item can be sampled only once: a repeated call would wait for items that the
            # first call has already removed.
            items = self._server.call(
                lambda: list(client.sample(EPISODES, count, emit_timesteps=False)),
                timeout,
                retry=False,
            )
            return [tuple(item.data[0].reshape(2).tolist()) for item in items]
        return []


class _ReadTimeout:
    """An `OnWait` for reading from a server that has just answered.

    If the data does not arrive soon, the server is gone, or was restarted and has lost the data.
    """

    def __init__(self) -> None:
        self._deadline = time.monotonic() + _READ_SECONDS

    def __call__(self) -> None:
        if time.monotonic() > self._deadline:
            raise ReplayError("the replay server no longer answers, or was restarted")


class Subscriber:
    """An actor's side: reads the learner's state and reports episodes."""

    def __init__(self, server: ServerConnection) -> None:
        """Open a writer of episodes.

        Args:
          server: Connection to the server that has the tables.
        """
        self._server = server
        self._writer: Any = server.call(lambda: server.client.trajectory_writer(1))

    def latest(self) -> LearnerState | None:
        """Return the state that the learner published last; None if there is none."""
        if not self._server.info(LEARNER).current_size:
            return None
        client = self._server.client
        (item,) = self._server.call(
            lambda: list(client.sample(LEARNER, 1, emit_timesteps=False)), _ReadTimeout()
        )
        config, weights, numbers = (column[0] for column in item.data)
        text, (env_steps, priority, is_over) = bytes(config).decode(), numbers.tolist()
        return LearnerState(text, weights, int(env_steps), priority, bool(is_over))

    def wait(self, seconds: float) -> LearnerState | None:
        """Wait until a state is published, and return it; None if none is within `seconds`."""
        deadline = time.monotonic() + seconds
        while (state := self.latest()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return state

    def report_episode(self, undiscounted_return: float, length: float) -> None:
        """Send the return and length of an episode, without waiting for the server to take it."""
        with translate_errors(self._server.address):
            self._writer.append({"episode": np.array([undiscounted_return, length])})
            last = {"episode": self._writer.history["episode"][-1]}
            self._writer.create_item(EPISODES, 1.0, last)

    def close(self) -> None:
        """Close the writer of episodes."""
        with contextlib.suppress(RuntimeError):  # the server is gone
            self._writer.close()
