from __future__ import annotations

import itertools

import pytest

from dqnkit.config import seeds
from dqnkit.config.seeds import Stream, stream_key, stream_seeds


def test_streams_and_seeds_have_keys_of_their_own() -> None:
    keys = [stream_key(seed, stream) for seed in range(200) for stream in Stream]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)


def test_episodes_of_training_evaluation_and_rendering_have_nothing_in_common() -> None:
    makers = (
        seeds.training_evaluation_keys,
        seeds.later_evaluation_keys,
        seeds.rendering_keys,
    )
    keys = [key for make, seed in itertools.product(makers, range(50)) for key in make(seed)]
    training = [stream_key(seed, stream) for seed in range(50) for stream in list(Stream)[:3]]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & set(training)


def test_seeds_that_are_avoided_are_never_given() -> None:
    key = stream_key(0, Stream.LATER_EVALUATION)
    free = stream_seeds(key, 3, 100)
    avoided = frozenset(free[::2])  # what training has, if chance has it so
    given = stream_seeds(key, 3, 100, avoided)
    assert not avoided & set(given)
    assert given[:50] == free[1::2]
    assert len(set(given)) == 100


@pytest.mark.parametrize("counter", [0, 1, -1, 2**63])
def test_seeds_are_those_of_key_and_counter_and_fit_into_a_c_int(counter: int) -> None:
    given = stream_seeds(1, counter, 50)
    assert given == stream_seeds(1, counter, 50)
    assert given != stream_seeds(2, counter, 50)
    assert given != stream_seeds(1, counter + 1, 50)
    assert all(0 <= seed < 2**31 for seed in given)
