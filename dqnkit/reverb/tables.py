"""Tables of a Reverb server, the data in them, and the rate at which they may be sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dqnkit._system.memory import check_replay_fits_memory
from dqnkit.config.fields import required
from dqnkit.config.sections import Config, ReplayConfig
from dqnkit.envs.specs import EnvSpec
from dqnkit.reverb.library import reverb, tf

REPLAY = "replay"
"""Name of the table of transitions."""
LEARNER = "learner"
"""Name of the table with the newest state of the learner, which actors read."""
EPISODES = "episodes"
"""Name of the table of returns and lengths of finished episodes, each read once."""

_MAX_EPISODES = 100_000
_OVERHEAD_BYTES = 2_900
"""Memory per transition beside its frame: chunks, item and table entry, as measured by
`benchmarks/replay_memory.py`."""
_SLACK_INSERTS = 200
"""Number of transitions by which actors and learner may deviate from their ratio."""


@dataclass(frozen=True)
class TransitionSpec:
    """Layout of the transitions of an environment, and how they are computed from its frames."""

    spec: EnvSpec
    n_step: int = 1
    """Number of rewards in an n-step return."""
    gamma: float = 1.0
    """Discount per step within an n-step return."""

    @property
    def stack(self) -> int:
        """Number of frames per observation."""
        return self.spec.observation.frame_stack

    @property
    def dtype(self) -> str:
        """Data type of a frame."""
        return self.spec.observation.dtype

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return self.spec.observation.frame_shape

    @property
    def frames(self) -> int:
        """Number of frames per sample (`HostReplay.frames_per_sample`).

        Observation and next observation of a one-step transition share their frames.
        """
        return self.stack + 1 if self.n_step == 1 else 2 * self.stack

    def signature(self) -> dict[str, Any]:
        """Return Reverb's signature: the frames, and `scalars`: action, reward and discount."""
        one_step = {"frames": self._frames_spec("frames", self.stack + 1)}
        n_step = {name: self._frames_spec(name, self.stack) for name in ("frames", "next_frames")}
        scalars = {"scalars": tf.TensorSpec([3], tf.float32, "scalars")}
        return (one_step if self.n_step == 1 else n_step) | scalars

    def _frames_spec(self, name: str, frames: int) -> Any:
        return tf.TensorSpec([frames, *self.frame_shape], self.dtype, name)


@dataclass(frozen=True)
class RateLimits:
    """Number of samples per inserted transition, as Reverb's rate limiter enforces it."""

    samples_per_insert: float | None = None
    """Ratio of sampled to inserted transitions; None allows any ratio."""
    min_size: int = 1
    """Number of transitions in the table before the first may be sampled."""
    slack_inserts: int = 0
    """Number of transitions by which actors and learner may deviate from the ratio."""
    draws_per_iteration: int = 0
    """Number of transitions that an iteration of the learner samples together."""

    @classmethod
    def from_config(cls, config: Config) -> RateLimits:
        """Return the limits of a server that several processes of a run share."""
        training = config.training
        capacity = config.replay.replay_buffer_max_length
        # The writers withhold transitions until their n-step returns are complete.
        withheld = config.env.num_envs * (config.agent.n_step - 1)
        initial = training.initial_collect_steps
        min_size = max(1, min(initial, capacity) - withheld)
        return cls(
            samples_per_insert=_samples_per_insert(config),
            min_size=min_size,
            # All initial steps are inserted before the first update, even where the table keeps
            # fewer.
            slack_inserts=_SLACK_INSERTS + withheld + max(0, initial - min_size),
            draws_per_iteration=training.gradient_steps_per_iteration * training.batch_size,
        )

    def limiter(self) -> Any:
        """Return Reverb's rate limiter.

        Prefetched transitions, up to two iterations' worth, count as sampled.
        """
        if self.samples_per_insert is None:
            return reverb.rate_limiters.MinSize(self.min_size)
        slack = (
            self.slack_inserts * max(1.0, self.samples_per_insert) + 2 * self.draws_per_iteration
        )
        return reverb.rate_limiters.SampleToInsertRatio(
            self.samples_per_insert, self.min_size, error_buffer=slack
        )


def _samples_per_insert(config: Config) -> float | None:
    """Return the ratio of sampled to inserted transitions of a run; None if it samples none."""
    return config.replay.samples_per_insert or config.drawn_per_step or None


def make_replay_table(
    config: ReplayConfig, transition_spec: TransitionSpec, limits: RateLimits
) -> Any:
    """Make the table of transitions.

    Raises:
      ConfigError: If the table does not fit into the machine's memory.
    """
    capacity = config.replay_buffer_max_length
    frame_bytes = math.prod(transition_spec.frame_shape) * tf.as_dtype(transition_spec.dtype).size
    check_replay_fits_memory(capacity, capacity * (frame_bytes + _OVERHEAD_BYTES))
    sampler = reverb.selectors.Uniform()
    if config.is_prioritized:
        sampler = reverb.selectors.Prioritized(required(config.alpha))
    return reverb.Table(
        REPLAY,
        sampler=sampler,
        remover=reverb.selectors.Fifo(),
        max_size=capacity,
        rate_limiter=limits.limiter(),
        signature=transition_spec.signature(),
    )


def make_broadcast_tables() -> list[Any]:
    """Make the tables `LEARNER` and `EPISODES`."""
    learner = reverb.Table(
        LEARNER,
        sampler=reverb.selectors.Fifo(),
        remover=reverb.selectors.Fifo(),
        max_size=1,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    episodes = reverb.Table(
        EPISODES,
        sampler=reverb.selectors.Fifo(),
        remover=reverb.selectors.Fifo(),
        max_size=_MAX_EPISODES,
        max_times_sampled=1,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    return [learner, episodes]
