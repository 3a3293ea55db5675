"""Conversion of one environment's steps to transitions in a Reverb table."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from dqnkit.reverb.connection import POLL_SECONDS, OnWait, ServerConnection, translate_errors
from dqnkit.reverb.library import reverb
from dqnkit.reverb.tables import REPLAY, TransitionSpec

_MAX_IN_FLIGHT = 16
"""Number of transitions that may be on their way to the server before `add` blocks."""


class TransitionWriter:
    """A writer of one environment's transitions.

    Each frame is sent once, and transitions refer to it. An n-step transition is written when its
    last step is done or its episode has ended, as by the adders of Acme (Hoffman et al., 2020):
    until then, the newest n_step - 1 transitions cannot be sampled.
    """

    def __init__(
        self,
        server: ServerConnection,
        transition_spec: TransitionSpec,
        make_on_wait: Callable[[], OnWait],
    ) -> None:
        """Open the writer.

        Args:
          server: Connection to the server that has the table.
          transition_spec: Layout of the transitions.
          make_on_wait: Makes the callback for a wait. Called whenever the rate limiter begins to
            block.
        """
        self._server = server
        self._make_on_wait = make_on_wait
        self._transition_spec = transition_spec
        n_step = transition_spec.n_step
        # The scalars of n_step - 1 shorter transitions follow the last frame of an episode.
        history = transition_spec.stack + 2 * n_step
        self._writer: Any = server.call(lambda: server.client.trajectory_writer(history))
        for column in ("frames", "scalars"):
            # A chunk of several steps would be sent only when it is full, and sampled as a whole.
            self._writer.configure((column,), num_keep_alive_refs=history, max_chunk_length=1)
        self._steps: deque[tuple[int, float]] = deque(maxlen=n_step)
        """Actions and rewards of the steps of the next transition."""
        self._num_frames = 0
        self.priority = 1.0
        """Priority of the transitions that are written next."""

    def begin(self, frame: np.ndarray) -> None:
        """Begin an episode; a previous episode that has not terminated is truncated here.

        Args:
          frame: First frame of the episode, [*frame_shape].
        """
        if self._num_frames:
            self._write_remaining(terminated=False)
            self.flush()
            with translate_errors(self._server.address):
                self._writer.end_episode()
        self._steps.clear()
        # Copies of the first frame fill the stack: a Reverb trajectory cannot repeat one frame.
        for _ in range(self._transition_spec.stack):
            self._append({"frames": frame})
        self._num_frames = self._transition_spec.stack

    def add(self, action: int, reward: float, frame: np.ndarray, *, terminated: bool) -> None:
        """Add a step.

        Args:
          action: Index of the action.
          reward: Reward of the step.
          frame: Frame after the step, [*frame_shape].
          terminated: True if the step led to a terminal state.
        """
        self._steps.append((action, reward))
        self._num_frames += 1
        if len(self._steps) < self._transition_spec.n_step:
            self._append({"frames": frame})
        else:
            scalars = self._scalars(terminated=terminated)
            self._append({"frames": frame, "scalars": scalars})
            self._create_item()
            self._steps.popleft()
        if terminated:
            self._write_remaining(terminated=True)

    def flush(self, in_flight: int = 0) -> None:
        """Wait until the server has received the transitions.

        Args:
          in_flight: Number of transitions that may still be on their way.

        Raises:
          ReplayError: If the server does not answer.
          Exception: Whatever the callback of the wait raises.
        """
        on_wait: OnWait | None = None
        while True:
            # A longer wait would delay signal handlers.
            blocked = contextlib.suppress(reverb.DeadlineExceededError)
            with translate_errors(self._server.address), blocked:
                self._writer.flush(in_flight, timeout_ms=int(1_000 * POLL_SECONDS))
                return
            on_wait = on_wait or self._make_on_wait()
            on_wait()

    def close(self) -> None:
        """Close the writer; transitions that the server has not received are lost."""
        with contextlib.suppress(RuntimeError):  # the server is gone
            self._writer.close()

    def _write_remaining(self, *, terminated: bool) -> None:
        """Write the transitions at the end of an episode, which have fewer than n_step steps."""
        while self._steps:
            self._append({"scalars": self._scalars(terminated=terminated)})
            self._create_item()
            self._steps.popleft()

    def _scalars(self, *, terminated: bool) -> np.ndarray:
        """Return action, n-step reward and discount of the next transition, float32 [3]."""
        gamma = self._transition_spec.gamma
        total = sum(gamma**i * reward for i, (_, reward) in enumerate(self._steps))
        discount = 0.0 if terminated else gamma ** (len(self._steps) - 1)
        return np.array([self._steps[0][0], total, discount], np.float32)

    def _append(self, columns: dict[str, np.ndarray]) -> None:
        dtypes = {"frames": self._transition_spec.dtype, "scalars": "float32"}
        with translate_errors(self._server.address):
            self._writer.append({k: np.asarray(v, dtypes[k]) for k, v in columns.items()})

    def _create_item(self) -> None:
        frames, scalars = (self._writer.history[name] for name in ("frames", "scalars"))
        # Lists of positions: Reverb treats a slice that ends at the newest entry as empty.
        end = self._num_frames
        start = end - len(self._steps)
        stack = self._transition_spec.stack
        if self._transition_spec.n_step == 1:
            trajectory = {"frames": frames[list(range(start - stack, end))]}
        else:
            trajectory = {
                "frames": frames[list(range(start - stack, start))],
                "next_frames": frames[list(range(end - stack, end))],
            }
        item = {**trajectory, "scalars": scalars[-1]}
        with translate_errors(self._server.address):
            self._writer.create_item(REPLAY, self.priority, item)
        self.flush(_MAX_IN_FLIGHT)
