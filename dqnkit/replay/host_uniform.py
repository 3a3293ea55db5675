"""Uniform replay in NumPy: every frame is kept once."""

from __future__ import annotations

import math

import numpy as np

from dqnkit._system.memory import check_replay_fits_memory
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError
from dqnkit.replay.base import Sample

_STARTS = np.uint8(1)
"""A transition starts at this row: its successor is here, and so is what it is stacked of."""
_TERMINAL = np.uint8(2)
"""The transition that starts here ends in a terminal state."""


class HostUniformReplay:
    """A ring of frames for each environment, sampled uniformly, with replacement (`Replay`).

    A row holds a frame and, once it is known, the action that was taken there, its reward and how
    it ended. The next row holds where it led, so that no frame is kept twice, neither as a next
    observation nor in a stack. An episode's last frame takes a row of its own, at which no
    transition starts.

    Returns over several steps are added up when they are sampled, from the rows that follow. They
    end with the episode, and at the newest step, from whose frame they bootstrap like any other.
    """

    _PRIORITY_BYTES = 0

    def __init__(
        self,
        max_length: int,
        num_envs: int,
        spec: EnvSpec,
        n_step: int = 1,
        gamma: float = 1.0,
    ) -> None:
        """Allocates the rings.

        Args:
          max_length: Rows kept at most, over all environments; one more for each environment
            holds the frame that it is at.
          num_envs: Rings.
          spec: Of the environment.
          n_step: Rewards that a sampled transition sums.
          gamma: What a reward of the next step is discounted by in that sum.

        Raises:
          ConfigError: They are larger than the machine's memory, or too small for a transition.
        """
        observation = spec.observation
        self._stack = observation.frame_stack
        self._n_step, self._gamma = n_step, gamma
        self.frames_per_sample = self._stack + 1 if n_step == 1 else 2 * self._stack
        self._frame_shape, self._dtype = observation.frame_shape, np.dtype(observation.dtype)
        self._packs_bits = self._dtype == np.bool_
        stored_shape, stored_dtype = self._frame_shape, self._dtype
        if self._packs_bits:
            stored_shape, stored_dtype = (-(-math.prod(self._frame_shape) // 8),), np.dtype("uint8")
        elif spec.observation.num_values:
            stored_dtype = _smallest(spec.observation.num_values)
        self._first_value = spec.observation.first_value
        actions = _smallest(spec.num_actions)
        self.bytes_per_row = (
            math.prod(stored_shape) * stored_dtype.itemsize
            + actions.itemsize
            + np.dtype(np.float32).itemsize
            + np.dtype(np.uint8).itemsize * (2 if self._stack > 1 else 1)
        )
        self._rows = max_length // num_envs + 1
        # Room for the rows behind an episode's end: a stack, its last frame, and the next's first.
        if self._rows < self._stack + 2:
            raise ConfigError(
                f"replay.replay_buffer_max_length={max_length:,} is too little for "
                f"env.num_envs={num_envs} and env.frame_stack={self._stack}: keep at least "
                f"{num_envs * (self._stack + 1):,} transitions"
            )
        rows = num_envs * self._rows
        self.bytes_per_row += self._PRIORITY_BYTES
        check_replay_fits_memory(max_length, rows * self.bytes_per_row)
        self._frames = np.zeros((rows, *stored_shape), stored_dtype)
        self._actions = np.zeros(rows, actions)
        self._rewards = np.zeros(rows, np.float32)
        self._flags = np.zeros(rows, np.uint8)
        # Frames of the same episode before a row's own, as far as a stack reaches.
        self._history = np.zeros(rows if self._stack > 1 else 0, np.uint8)
        self._bases = np.arange(num_envs) * self._rows
        self._written = np.zeros(num_envs, np.int64)
        self._offsets = np.arange(1 - self._stack, 2)[None]

    @property
    def num_transitions(self) -> int:
        """Transitions that can be sampled."""
        return int(np.count_nonzero(self._flags & _STARTS))

    def check(self) -> None:
        """See `Replay`: it is nobody else's."""

    def begin(self, envs: np.ndarray, frames: np.ndarray) -> None:
        """See `Replay`."""
        self._append(envs, frames, None)

    def add(
        self,
        envs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        frames: np.ndarray,
    ) -> None:
        """See `Replay`."""
        rows = self._newest(envs)
        self._actions[rows] = actions
        self._rewards[rows] = rewards
        self._flags[rows] = _STARTS + _TERMINAL * terminated
        self._flagged(rows)
        self._append(envs, frames, rows)

    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """`size` transitions, each as likely as any other.

        Rows are drawn until one is met at which a transition starts.
        """
        rows = self._draw(rng, size)
        while (missing := np.flatnonzero(~self._starts(rows))).size:
            if missing.size == size and not self.num_transitions:
                raise ValueError("a replay without transitions has nothing to sample")
            rows[missing] = self._draw(rng, missing.size)
        return self.transitions(rows)

    def transitions(self, rows: np.ndarray | None = None) -> Sample:
        """The transitions that start at some rows, int [B]; all of them by default."""
        if rows is None:
            rows = np.flatnonzero(self._flags & _STARTS)
        rewards, discounts, last = self._returns(rows)
        scalars = np.stack([self._actions[rows].astype(np.float32), rewards, discounts], axis=1)
        frames = self._gather(rows)
        if self._n_step > 1:
            following = self._gather(last)[:, 1:]
            frames = np.concatenate([frames[:, : self._stack], following], axis=1)
        return Sample(frames, scalars, rows)

    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        """See `Replay`."""

    def state(self) -> dict[str, np.ndarray]:
        """What was kept, row by row up to the fullest ring."""
        filled = self._filled()
        arrays = {"written": self._written.copy()}
        for name, rings in self._rings().items():
            arrays[name] = rings[:, :filled].copy()
        return arrays

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`; the episodes that were under way go no further.

        Raises:
          ConfigError: It is of a replay of other environments or another size.
        """
        rings = self._rings()
        filled = state["frames"].shape[1] if "frames" in state else 0
        wanted = {name: (ring.shape[0], filled, *ring.shape[2:]) for name, ring in rings.items()}
        given = {name: state[name].shape for name in wanted if name in state}
        if wanted != given or filled > self._rows or "written" not in state:
            raise ConfigError(
                f"the saved replay holds {given} and this one takes {wanted}, up to {self._rows} "
                "rows: restore it with the configuration it was saved by"
            )
        for name, ring in rings.items():
            ring[:] = 0
            ring[:, :filled] = state[name]
        self._written[:] = state["written"]

    def close(self) -> None:
        """See `Replay`: it has started nothing."""

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {
            "frames": self._frames,
            "actions": self._actions,
            "rewards": self._rewards,
            "flags": self._flags,
        }
        return columns | ({"history": self._history} if self._stack > 1 else {})

    def _rings(self) -> dict[str, np.ndarray]:
        """The columns as [environment, row, ...], not copied."""
        shape = (len(self._bases), self._rows)
        return {
            name: column.reshape(*shape, *column.shape[1:])
            for name, column in self._columns().items()
        }

    def _append(self, envs: np.ndarray, frames: np.ndarray, before: np.ndarray | None) -> None:
        """Writes frames over the oldest rows, behind the rows `before` of their episodes if any."""
        if not len(envs):
            return
        rows = self._bases[envs] + self._written[envs] % self._rows
        self._written[envs] += 1
        if self._packs_bits:
            frames = np.packbits(frames.reshape(len(frames), -1), axis=1)
        elif self._first_value:
            frames = frames - self._first_value
        self._frames[rows] = frames
        self._flags[rows] = 0
        self._flagged(rows)
        if self._stack > 1:
            history = 0 if before is None else np.minimum(self._history[before] + 1, self._stack)
            self._history[rows] = history
            # The rows behind are the oldest; some were stacked of what is overwritten now.
            for distance in range(1, self._stack):
                behind = self._bases[envs] + (self._written[envs] - 1 + distance) % self._rows
                cut = self._history[behind] >= distance
                self._flags[behind[cut]] = 0
                self._flagged(behind[cut])

    def _flagged(self, rows: np.ndarray) -> None:
        """Hears of rows whose flags have changed."""

    def _starts(self, rows: np.ndarray) -> np.ndarray:
        """Whether a transition starts there, bool [B]."""
        starts: np.ndarray = self._flags[rows] & _STARTS != 0
        return starts

    def _returns(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums of rewards, what the bootstrap is discounted by, and the rows of the last steps."""
        rewards, last = self._rewards[rows], rows
        discounts = np.ones(len(rows), np.float32)
        goes_on = np.ones(len(rows), np.bool_)
        for step in range(1, self._n_step):
            within = last % self._rows
            following = last - within + (within + 1) % self._rows
            # An episode's last frame and the newest frame are no starts.
            goes_on = goes_on & self._starts(following)
            discount = np.float32(self._gamma**step)
            rewards = rewards + np.where(goes_on, discount * self._rewards[following], 0.0)
            discounts = np.where(goes_on, discount, discounts)
            last = np.where(goes_on, following, last)
        return rewards, discounts * (self._flags[last] & _TERMINAL == 0), last

    def _newest(self, envs: np.ndarray) -> np.ndarray:
        rows: np.ndarray = self._bases[envs] + (self._written[envs] - 1) % self._rows
        return rows

    def _filled(self) -> int:
        return int(min(self._written.max(), self._rows))

    def _draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        filled = self._filled()
        drawn = rng.integers(len(self._bases) * filled, size=size)
        if len(self._bases) == 1:
            return drawn
        env, row = np.divmod(drawn, filled)
        rows: np.ndarray = self._bases[env] + row
        return rows

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Frames [B, frame_stack + 1, *frame_shape] around rows [B]."""
        offsets = self._offsets
        if self._stack > 1:
            # Before an episode's first frame stand copies of it.
            offsets = np.maximum(offsets, -self._history[rows].astype(np.int64)[:, None])
        within = rows % self._rows
        frames: np.ndarray = self._frames.take(
            (rows - within)[:, None] + (within[:, None] + offsets) % self._rows, axis=0
        )
        if self._packs_bits:
            frames = np.unpackbits(frames, axis=-1, count=math.prod(self._frame_shape))
            frames = frames.reshape(*frames.shape[:2], *self._frame_shape).view(np.bool_)
        elif frames.dtype != self._dtype:
            frames = frames.astype(self._dtype) + self._dtype.type(self._first_value)
        return frames


def _smallest(num_values: int) -> np.dtype[np.generic]:
    """The smallest unsigned integer that numbers `num_values` things from 0."""
    dtype: np.dtype[np.generic] = np.min_scalar_type(num_values - 1)
    return dtype
