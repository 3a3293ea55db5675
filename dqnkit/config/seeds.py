"""Independent random streams of a run, all from its one seed."""

from __future__ import annotations

from collections.abc import Container
from enum import IntEnum
from typing import NamedTuple

import numpy as np


class Stream(IntEnum):
    """What a stream decides. A value, once released, keeps its meaning: curves depend on it."""

    WEIGHTS = 0
    INITIAL_COLLECT = 1
    TRAINING = 2
    EVALUATION = 3
    EVALUATION_STEPS = 4
    ENVIRONMENTS = 5
    LATER_EVALUATION = 6
    LATER_EVALUATION_STEPS = 7
    RENDERING = 8
    RENDERING_STEPS = 9
    SEARCH = 10
    ACTORS = 11


def stream_key(seed: int, stream: Stream) -> int:
    """A 63-bit key for one stream of a run, by NumPy's `SeedSequence`.

    Keys of different streams, and of different seeds, are statistically independent, so that
    evaluation never meets the episodes of training.
    """
    words = np.random.SeedSequence(seed, spawn_key=(int(stream),)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def actor_key(seed: int, number: int, env_steps: int) -> int:
    """A 63-bit key for one actor of a run, from the step at which it joins: nothing is repeated."""
    spawn_key = (int(Stream.ACTORS), number, env_steps)
    words = np.random.SeedSequence(seed, spawn_key=spawn_key).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


class EpisodeKeys(NamedTuple):
    """Keys of the two streams that episodes of an evaluation are made of."""

    resets: int
    """Initial states."""
    steps: int
    """What is drawn while an episode goes on: by the environment in the graph, by the policy."""


def training_evaluation_keys(seed: int) -> EpisodeKeys:
    """Of the evaluations that belong to a training run."""
    return EpisodeKeys(
        stream_key(seed, Stream.EVALUATION), stream_key(seed, Stream.EVALUATION_STEPS)
    )


def later_evaluation_keys(seed: int) -> EpisodeKeys:
    """Of an evaluation of a saved policy: episodes that no run has met, whatever its seed."""
    return EpisodeKeys(
        stream_key(seed, Stream.LATER_EVALUATION), stream_key(seed, Stream.LATER_EVALUATION_STEPS)
    )


def rendering_keys(seed: int) -> EpisodeKeys:
    """Of the episodes in a video."""
    return EpisodeKeys(stream_key(seed, Stream.RENDERING), stream_key(seed, Stream.RENDERING_STEPS))


def stream_seeds(key: int, counter: int, count: int, avoided: Container[int] = ()) -> list[int]:
    """Seeds of `count` environments for a (key, counter) pair, by NumPy's `SeedSequence`.

    Args:
      key: Of a stream.
      counter: Any integer of 64 bits.
      count: How many.
      avoided: Seeds that are left out: those of training, when the others are of an evaluation.
    """
    sequence = np.random.SeedSequence([key, counter % 2**64])
    wanted = count
    while True:
        # Gymnasium takes what fits into a C int.
        seeds = [int(word) >> 1 for word in sequence.generate_state(wanted)]
        allowed = [seed for seed in seeds if seed not in avoided]
        if len(allowed) >= count:
            return allowed[:count]
        wanted += count - len(allowed)


def training_environment_seeds(seed: int, num_envs: int) -> list[int]:
    """Seeds of the environments that a run of the host loop starts with."""
    return stream_seeds(stream_key(seed, Stream.ENVIRONMENTS), 0, num_envs)
