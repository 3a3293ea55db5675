"""Uniform replay in NumPy that stores every frame once."""

from __future__ import annotations

import math

import numpy as np
from typing_extensions import override

from dqnkit._system.memory import check_replay_fits_memory
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError
from dqnkit.replay.base import HostReplay, Sample

_STARTS = np.uint8(1)
"""Flag of a row at which a transition starts: the next frame and the whole stack are stored."""
_TERMINAL = np.uint8(2)
"""Flag of a row whose transition ends in a terminal state."""


class HostUniformReplay(HostReplay):
    """A ring buffer of frames for each environment, sampled uniformly with replacement.

    A row holds a frame and, once the step is taken, its action, its reward, and whether it
    terminated the episode. The next row holds the frame that the action led to, so no frame is
    stored twice, neither as a next observation nor in a stack. An episode's last frame takes a row
    of its own, at which no transition starts.

    n-step returns are summed when they are sampled, from the rows that follow. They end with the
    episode or at the newest step, where they bootstrap from its next observation.
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
        """Allocate the rings.

        Args:
          max_length: Maximum number of rows over all environments. Each environment has one more
            row for its current frame.
          num_envs: Number of environments, each with a ring of its own.
          spec: Specification of the environment.
          n_step: Number of rewards summed in a sampled transition.
          gamma: Discount factor in that sum.

        Raises:
          ConfigError: If the rings do not fit into memory, or are too small for a transition.
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
        action_dtype = _smallest_dtype(spec.num_actions)
        self.bytes_per_row = (
            math.prod(stored_shape) * stored_dtype.itemsize
            + action_dtype.itemsize
            + np.dtype(np.float32).itemsize
            + np.dtype(np.uint8).itemsize * (2 if self._stack > 1 else 1)
        )
        self._rows = max_length // num_envs + 1
        # A transition at an episode's end needs its stack, the last frame, and room for the first
        # frame of the next episode.
        if self._rows < self._stack + 2:
            raise ConfigError(
                f"replay.replay_buffer_max_length={max_length:,} is too small for "
                f"env.num_envs={num_envs} and env.frame_stack={self._stack}: keep at least "
                f"{num_envs * (self._stack + 1):,} transitions"
            )
        rows = num_envs * self._rows
        self.bytes_per_row += self._PRIORITY_BYTES
        check_replay_fits_memory(max_length, rows * self.bytes_per_row)
        self._frames = np.zeros((rows, *stored_shape), stored_dtype)
        self._actions = np.zeros(rows, action_dtype)
        self._rewards = np.zeros(rows, np.float32)
        self._flags = np.zeros(rows, np.uint8)
        # Number of earlier frames of the same episode, up to the size of a stack.
        self._history = np.zeros(rows if self._stack > 1 else 0, np.uint8)
        self._bases = np.arange(num_envs) * self._rows
        self._written = np.zeros(num_envs, np.int64)
        self._offsets = np.arange(1 - self._stack, 2)[None]

    @property
    @override
    def num_transitions(self) -> int:
        return int(np.count_nonzero(self._flags & _STARTS))

    @override
    def check(self) -> None:
        """Do nothing: no other process has access to this replay."""

    @override
    def begin(self, envs: np.ndarray, frames: np.ndarray) -> None:
        self._append(envs, frames, None)

    @override
    def add(
        self,
        envs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        frames: np.ndarray,
    ) -> None:
        rows = self._newest(envs)
        self._actions[rows] = actions
        self._rewards[rows] = rewards
        self._flags[rows] = _STARTS + _TERMINAL * terminated
        self._on_flags_changed(rows)
        self._append(envs, frames, rows)

    @override
    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        # Rejection sampling: rows at which no transition starts are drawn again.
        rows = self._draw(rng, size)
        while (missing := np.flatnonzero(~self._starts(rows))).size:
            if missing.size == size and not self.num_transitions:
                raise ValueError("the replay holds no transitions: there is nothing to sample")
            rows[missing] = self._draw(rng, missing.size)
        return self.transitions(rows)

    def transitions(self, rows: np.ndarray | None = None) -> Sample:
        """Return the transitions that start at some rows, int [B]; all transitions by default."""
        if rows is None:
            rows = np.flatnonzero(self._flags & _STARTS)
        rewards, discounts, last = self._returns(rows)
        scalars = np.stack([self._actions[rows].astype(np.float32), rewards, discounts], axis=1)
        frames = self._gather(rows)
        if self._n_step > 1:
            following = self._gather(last)[:, 1:]
            frames = np.concatenate([frames[:, : self._stack], following], axis=1)
        return Sample(frames, scalars, rows)

    @override
    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        """Do nothing: sampling is uniform."""

    @override
    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the rings, [num_envs, rows, ...], up to the length of the fullest."""
        filled = self._filled()
        arrays = {"written": self._written.copy()}
        for name, rings in self._rings().items():
            arrays[name] = rings[:, :filled].copy()
        return arrays

    @override
    def restore(self, state: dict[str, np.ndarray]) -> None:
        rings = self._rings()
        filled = state["frames"].shape[1] if "frames" in state else 0
        wanted = {name: (ring.shape[0], filled, *ring.shape[2:]) for name, ring in rings.items()}
        given = {name: state[name].shape for name in wanted if name in state}
        if wanted != given or filled > self._rows or "written" not in state:
            raise ConfigError(
                f"the saved replay holds {given} and this one takes {wanted}, up to {self._rows} "
                "rows: restore it with the configuration that it was saved with"
            )
        for name, ring in rings.items():
            ring[:] = 0
            ring[:, :filled] = state[name]
        self._written[:] = state["written"]

    @override
    def close(self) -> None:
        """Do nothing: the replay has opened nothing."""

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {
            "frames": self._frames,
            "actions": self._actions,
            "rewards": self._rewards,
            "flags": self._flags,
        }
        return columns | ({"history": self._history} if self._stack > 1 else {})

    def _rings(self) -> dict[str, np.ndarray]:
        """Return the columns as views [num_envs, rows, ...]."""
        shape = (len(self._bases), self._rows)
        return {
            name: column.reshape(*shape, *column.shape[1:])
            for name, column in self._columns().items()
        }

    def _append(self, envs: np.ndarray, frames: np.ndarray, before: np.ndarray | None) -> None:
        """Write frames over the oldest rows.

        Args:
          envs: Indices of the environments, int [K].
          frames: Frames, [K, *frame_shape].
          before: Rows of the frames before these in the same episodes, int [K]; None if episodes
            start.
        """
        if not len(envs):
            return
        rows = self._bases[envs] + self._written[envs] % self._rows
        self._written[envs] += 1
        if self._packs_bits:
            frames = np.packbits(frames.reshape(len(frames), -1), axis=1)
        self._frames[rows] = frames
        self._flags[rows] = 0
        self._on_flags_changed(rows)
        if self._stack > 1:
            history = 0 if before is None else np.minimum(self._history[before] + 1, self._stack)
            self._history[rows] = history
            # The following rows hold the oldest frames; their stacks may need an overwritten frame.
            for distance in range(1, self._stack):
                oldest = self._bases[envs] + (self._written[envs] - 1 + distance) % self._rows
                incomplete = oldest[self._history[oldest] >= distance]
                self._flags[incomplete] = 0
                self._on_flags_changed(incomplete)

    def _on_flags_changed(self, rows: np.ndarray) -> None:
        """Do nothing; subclasses override this to follow changes of the flags of `rows`."""

    def _starts(self, rows: np.ndarray) -> np.ndarray:
        """Return whether a transition starts at each row, bool [B]."""
        starts: np.ndarray = self._flags[rows] & _STARTS != 0
        return starts

    def _returns(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return sums of rewards, discounts of the bootstrap values, and rows of the last steps."""
        rewards, last = self._rewards[rows], rows
        discounts = np.ones(len(rows), np.float32)
        continues = np.ones(len(rows), np.bool_)
        for step in range(1, self._n_step):
            within = last % self._rows
            following = last - within + (within + 1) % self._rows
            # No transition starts at an episode's last frame or at the newest frame.
            continues = continues & self._starts(following)
            discount = np.float32(self._gamma**step)
            rewards = rewards + np.where(continues, discount * self._rewards[following], 0.0)
            discounts = np.where(continues, discount, discounts)
            last = np.where(continues, following, last)
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
        """Return the stack at each row and its next frame, [B, frame_stack + 1, *frame_shape]."""
        offsets = self._offsets
        if self._stack > 1:
            # A stack that reaches before its episode repeats the first frame.
            offsets = np.maximum(offsets, -self._history[rows].astype(np.int64)[:, None])
        within = rows % self._rows
        frames: np.ndarray = self._frames.take(
            (rows - within)[:, None] + (within[:, None] + offsets) % self._rows, axis=0
        )
        if self._packs_bits:
            frames = np.unpackbits(frames, axis=-1, count=math.prod(self._frame_shape))
            frames = frames.reshape(*frames.shape[:2], *self._frame_shape).view(np.bool_)
        return frames


def _smallest_dtype(num_values: int) -> np.dtype[np.generic]:
    """Return the smallest unsigned integer type that holds 0 to `num_values` - 1."""
    dtype: np.dtype[np.generic] = np.min_scalar_type(num_values - 1)
    return dtype
