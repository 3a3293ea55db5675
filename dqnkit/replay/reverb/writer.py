"""What one environment does, as transitions in a Reverb table."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import Any

import numpy as np

from dqnkit.errors import ReplayError
from dqnkit.replay.reverb.library import reverb
from dqnkit.replay.reverb.tables import REPLAY, Recipe

_IN_FLIGHT = 16
"""Transitions on their way to the server that do not hold up the environment."""


class TransitionWriter:
    """Frames and steps of one environment, one after another.

    Each frame is written once; transitions refer to it. One over several steps is written when its
    last step is there or its episode has ended, as in Acme's adder: the newest n_step - 1 cannot be
    sampled yet.
    """

    def __init__(self, client: Any, recipe: Recipe, patience: float | None) -> None:
        """Connects.

        Args:
          client: Of `reverb.Client`.
          recipe: Of the table's transitions.
          patience: Seconds that the rate limiter may hold up a transition; None waits for ever.
        """
        self._patience = patience
        self._recipe = recipe
        n_step = recipe.n_step
        # Behind an episode's last frame stand the scalars of n_step - 1 shorter transitions.
        kept = recipe.stack + 2 * n_step
        self._writer = client.trajectory_writer(kept)
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
          ReplayError: It takes no more for too long.
        """
        began = time.monotonic()
        while True:
            with contextlib.suppress(reverb.DeadlineExceededError):
                # In pieces, between which a signal is heard.
                self._writer.flush(left, timeout_ms=1_000)
                return
            if self._patience is not None and time.monotonic() > began + self._patience:
                raise ReplayError(
                    f"Reverb took no transition for {self._patience:.0f} s: its rate limiter waits "
                    "for others that draw from the table, or the server hangs"
                )

    def close(self) -> None:
        """Ends the connection."""
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
        self._writer.create_item(REPLAY, self.priority, {**trajectory, "scalars": scalars[-1]})
        self.flush(_IN_FLIGHT)
