"""What one environment does, as transitions in a Reverb table."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from dqnkit.reverb.connection import ServerConnection, explained
from dqnkit.reverb.library import reverb
from dqnkit.reverb.tables import REPLAY, TransitionSpec

_PIECE_MS = 1_000
_IN_FLIGHT = 16
"""Transitions on their way to the server that do not hold up the environment."""


class TransitionWriter:
    """Frames and steps of one environment, one after another.

    Each frame is written once; transitions refer to it. One over several steps is written when its
    last step is there or its episode has ended, as in Acme's adder: the newest n_step - 1 cannot be
    sampled yet.
    """

    def __init__(
        self,
        server: ServerConnection,
        recipe: TransitionSpec,
        waiting: Callable[[], Callable[[], None]],
    ) -> None:
        """Connects.

        Args:
          server: That has the table.
          recipe: Of its transitions.
          waiting: Gives, for each time that the rate limiter holds up a transition, what is called
            each second of it, and raises if there is no hope.
        """
        self._server = server
        self._waiting = waiting
        self._recipe = recipe
        n_step = recipe.n_step
        # Behind an episode's last frame stand the scalars of n_step - 1 shorter transitions.
        kept = recipe.stack + 2 * n_step
        self._writer: Any = server.call(lambda: server.client.trajectory_writer(kept))
        for column in ("frames", "scalars"):
            # A longer chunk would wait for its other steps, and be read with them.
            self._writer.configure((column,), num_keep_alive_refs=kept, max_chunk_length=1)
        self._steps: deque[tuple[int, float]] = deque(maxlen=n_step)
        self._num_frames = 0
        self.priority = 1.0
        """Of what is written next."""

    def begin(self, frame: np.ndarray) -> None:
        """Starts an episode; the one before it was ended or cut."""
        if self._num_frames:
            self._write_rest(terminated=False)
            self.flush()
            with explained(self._server.address):
                self._writer.end_episode()
        self._steps.clear()
        # Before an episode's first frame stand copies of it: Reverb reads no frame twice in a row.
        for _ in range(self._recipe.stack):
            self._append({"frames": frame})
        self._num_frames = self._recipe.stack

    def add(self, action: int, reward: float, frame: np.ndarray, *, terminated: bool) -> None:
        """Completes a step that led to a frame."""
        self._steps.append((action, reward))
        self._num_frames += 1
        if len(self._steps) < self._recipe.n_step:
            self._append({"frames": frame})
        else:
            scalars = self._scalars(terminated=terminated)
            self._append({"frames": frame, "scalars": scalars})
            self._create_item()
            self._steps.popleft()
        if terminated:
            self._write_rest(terminated=True)

    def flush(self, left: int = 0) -> None:
        """Waits until the server has all but some.

        Raises:
          ReplayError: The server does not answer.
          Anything that the wait raises.
        """
        wait: Callable[[], None] | None = None
        while True:
            # In pieces, between which a signal is heard.
            held_up = contextlib.suppress(reverb.DeadlineExceededError)
            with explained(self._server.address), held_up:
                self._writer.flush(left, timeout_ms=_PIECE_MS)
                return
            wait = wait or self._waiting()
            wait()

    def close(self) -> None:
        """Ends it; what the server has not got by now is lost."""
        with contextlib.suppress(RuntimeError):  # the server is gone
            self._writer.close()

    def _write_rest(self, *, terminated: bool) -> None:
        """Writes the transitions that an episode's end leaves shorter."""
        while self._steps:
            self._append({"scalars": self._scalars(terminated=terminated)})
            self._create_item()
            self._steps.popleft()

    def _scalars(self, *, terminated: bool) -> np.ndarray:
        """Action, reward and discount of the steps that are under way."""
        total = sum(self._recipe.gamma**i * reward for i, (_, reward) in enumerate(self._steps))
        discount = 0.0 if terminated else self._recipe.gamma ** (len(self._steps) - 1)
        return np.array([self._steps[0][0], total, discount], np.float32)

    def _append(self, columns: dict[str, np.ndarray]) -> None:
        dtypes = {"frames": self._recipe.dtype, "scalars": "float32"}
        with explained(self._server.address):
            self._writer.append({k: np.asarray(v, dtypes[k]) for k, v in columns.items()})

    def _create_item(self) -> None:
        frames, scalars = (self._writer.history[name] for name in ("frames", "scalars"))
        # Positions one by one: Reverb takes a slice up to the newest one for an empty one.
        end = self._num_frames
        start = end - len(self._steps)
        stack = self._recipe.stack
        if self._recipe.n_step == 1:
            trajectory = {"frames": frames[list(range(start - stack, end))]}
        else:
            trajectory = {
                "frames": frames[list(range(start - stack, start))],
                "next_frames": frames[list(range(end - stack, end))],
            }
        item = {**trajectory, "scalars": scalars[-1]}
        with explained(self._server.address):
            self._writer.create_item(REPLAY, self.priority, item)
        self.flush(_IN_FLIGHT)
