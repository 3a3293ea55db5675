"""What a Reverb server keeps for a run: tables, what is in them, and how fast they may be read."""

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
"""Transitions."""
LEARNER = "learner"
"""What actors must know: the newest alone."""
EPISODES = "episodes"
"""What actors have seen end, each read once."""

_EPISODES_KEPT = 100_000
_BYTES_BESIDE_FRAMES = 2_900
"""Of a transition: its chunks, its item and its place in the table (`benchmarks/replay_memory.py`
measures it)."""
_SLACK_INSERTS = 200
"""Transitions by which actors and learner may be apart from their ratio."""


@dataclass(frozen=True)
class TransitionSpec:
    """How the frames of an environment become transitions, and what they are made of."""

    spec: EnvSpec
    n_step: int = 1
    """Rewards that a transition sums."""
    gamma: float = 1.0
    """What a reward of the next step is discounted by in that sum."""

    @property
    def stack(self) -> int:
        """Frames of an observation."""
        return self.spec.observation.frame_stack

    @property
    def dtype(self) -> str:
        """Of frames."""
        return self.spec.observation.dtype

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of one frame."""
        return self.spec.observation.frame_shape

    @property
    def frames(self) -> int:
        """Of a sample (`Replay.frames_per_sample`): those one step apart share theirs."""
        return self.stack + 1 if self.n_step == 1 else 2 * self.stack

    def signature(self) -> dict[str, Any]:
        """As Reverb has it: the frames, and action, reward and discount."""
        one_step = {"frames": self._spec_of("frames", self.stack + 1)}
        several = {name: self._spec_of(name, self.stack) for name in ("frames", "next_frames")}
        scalars = {"scalars": tf.TensorSpec([3], tf.float32, "scalars")}
        return (one_step if self.n_step == 1 else several) | scalars

    def _spec_of(self, name: str, frames: int) -> Any:
        return tf.TensorSpec([frames, *self.frame_shape], self.dtype, name)


@dataclass(frozen=True)
class RateLimits:
    """How many transitions may be drawn for each that is added (Reverb's rate limiter)."""

    samples_per_insert: float | None = None
    """None lets whoever comes draw, once there is anything."""
    min_size: int = 1
    """Transitions before the first is drawn."""
    slack_inserts: int = 0
    """Transitions by which actors and learner may be apart from their ratio."""
    drawn_together: int = 0
    """By an iteration of the learner."""

    @classmethod
    def of(cls, config: Config) -> RateLimits:
        """Those of a server that several processes share."""
        training = config.training
        capacity = config.replay.replay_buffer_max_length
        # Steps of a return that is not whole yet, which are counted when it is.
        withheld = config.env.num_envs * (config.agent.n_step - 1)
        initial = training.initial_collect_steps
        min_size = max(1, min(initial, capacity) - withheld)
        return cls(
            samples_per_insert=ratio(config),
            min_size=min_size,
            # What is collected before the first update counts, whether the table keeps it or not.
            slack_inserts=_SLACK_INSERTS + withheld + max(0, initial - min_size),
            drawn_together=training.gradient_steps_per_iteration * training.batch_size,
        )

    def limiter(self) -> Any:
        """Reverb's.

        What its samplers have fetched ahead counts as drawn: that is what two iterations draw.
        """
        if self.samples_per_insert is None:
            return reverb.rate_limiters.MinSize(self.min_size)
        slack = self.slack_inserts * max(1.0, self.samples_per_insert) + 2 * self.drawn_together
        return reverb.rate_limiters.SampleToInsertRatio(
            self.samples_per_insert, self.min_size, error_buffer=slack
        )


def ratio(config: Config) -> float | None:
    """Transitions that a run draws for each that it adds; None if it draws none."""
    return config.replay.samples_per_insert or config.drawn_per_step or None


def replay_table(config: ReplayConfig, recipe: TransitionSpec, limits: RateLimits) -> Any:
    """The table of transitions.

    Raises:
      ConfigError: It is larger than the machine's memory.
    """
    capacity = config.replay_buffer_max_length
    frame_bytes = math.prod(recipe.frame_shape) * tf.as_dtype(recipe.dtype).size
    check_replay_fits_memory(capacity, capacity * (frame_bytes + _BYTES_BESIDE_FRAMES))
    sampler = reverb.selectors.Uniform()
    if config.is_prioritized:
        sampler = reverb.selectors.Prioritized(required(config.alpha))
    return reverb.Table(
        REPLAY,
        sampler=sampler,
        remover=reverb.selectors.Fifo(),
        max_size=capacity,
        rate_limiter=limits.limiter(),
        signature=recipe.signature(),
    )


def broadcast_tables() -> list[Any]:
    """Those through which a learner and its actors hear of each other."""
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
        max_size=_EPISODES_KEPT,
        max_times_sampled=1,
        rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    return [learner, episodes]
