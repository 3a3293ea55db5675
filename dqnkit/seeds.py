"""Independent random streams of a run, all from its one seed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream decides. A value, once released, keeps its meaning: curves depend on it."""

    WEIGHTS = 0
    INITIAL_COLLECT = 1
    TRAINING = 2
    EVALUATION = 3
    EVALUATION_STEPS = 4
    ENVIRONMENTS = 5


def stream_key(seed: int, stream: Stream) -> int:
    """A 63-bit key for one stream of a run, by NumPy's `SeedSequence`.

    Keys of different streams, and of different seeds, are statistically independent, so that
    evaluation never meets the episodes of training.
    """
    words = np.random.SeedSequence(seed, spawn_key=(int(stream),)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def stream_seeds(key: int, counter: int, count: int) -> list[int]:
    """Seeds of `count` environments for a (key, counter) pair, by NumPy's `SeedSequence`.

    Args:
      key: Of a stream.
      counter: Any integer of 64 bits.
      count: How many.
    """
    words = np.random.SeedSequence([key, counter % 2**64]).generate_state(count)
    return [int(word) >> 1 for word in words]  # Gymnasium takes what fits into a C int
