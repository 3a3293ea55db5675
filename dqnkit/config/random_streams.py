"""Independent random streams of a run, derived from its seed."""

from __future__ import annotations

from collections.abc import Container
from enum import IntEnum
from typing import NamedTuple

import numpy as np


class Stream(IntEnum):
    """Purposes of random streams.

    The value of a member never changes after a release: learning curves depend on it.
    """

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
    """Return the 63-bit key of a random stream, derived by NumPy's `SeedSequence`.

    Keys of different streams and of different seeds are statistically independent, so that
    evaluation does not repeat the episodes of training.
    """
    words = np.random.SeedSequence(seed, spawn_key=(int(stream),)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def actor_key(seed: int, number: int, env_steps: int) -> int:
    """Return the 63-bit key of an actor's random stream.

    Args:
      seed: Seed of the run.
      number: Number of the actor.
      env_steps: Environment steps of the run when the actor joins; an actor that joins again does
        not repeat its episodes.
    """
    spawn_key = (int(Stream.ACTORS), number, env_steps)
    words = np.random.SeedSequence(seed, spawn_key=spawn_key).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


class EpisodeKeys(NamedTuple):
    """Keys of the two random streams of an evaluation's episodes."""

    resets: int
    """Key of the initial states."""
    steps: int
    """Key of the random numbers within episodes: of environments in the graph, and of the
    policy."""


def training_evaluation_keys(seed: int) -> EpisodeKeys:
    """Return the keys of the evaluations during a training run."""
    return EpisodeKeys(
        stream_key(seed, Stream.EVALUATION), stream_key(seed, Stream.EVALUATION_STEPS)
    )


def later_evaluation_keys(seed: int) -> EpisodeKeys:
    """Return the keys of an evaluation of a saved policy; no training run uses these episodes."""
    return EpisodeKeys(
        stream_key(seed, Stream.LATER_EVALUATION), stream_key(seed, Stream.LATER_EVALUATION_STEPS)
    )


def rendering_keys(seed: int) -> EpisodeKeys:
    """Return the keys of the episodes in a video."""
    return EpisodeKeys(stream_key(seed, Stream.RENDERING), stream_key(seed, Stream.RENDERING_STEPS))


def stream_seeds(key: int, counter: int, count: int, avoided: Container[int] = ()) -> list[int]:
    """Return environment seeds for a pair of key and counter, drawn from NumPy's `SeedSequence`.

    Args:
      key: Key of a random stream.
      counter: Integer that is reduced to 64 bits.
      count: Number of seeds to return, each from 0 to 2**31 - 1.
      avoided: Seeds to leave out, such as those of training when episodes are for evaluation.
    """
    sequence = np.random.SeedSequence([key, counter % 2**64])
    wanted = count
    while True:
        # Gymnasium's environments accept seeds that fit into a C int.
        seeds = [int(word) >> 1 for word in sequence.generate_state(wanted)]
        allowed = [seed for seed in seeds if seed not in avoided]
        if len(allowed) >= count:
            return allowed[:count]
        wanted += count - len(allowed)


def training_environment_seeds(seed: int, num_envs: int) -> list[int]:
    """Return the seeds with which a run of the host loop first resets its environments."""
    return stream_seeds(stream_key(seed, Stream.ENVIRONMENTS), 0, num_envs)
