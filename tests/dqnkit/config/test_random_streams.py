from __future__ import annotations

import itertools

import pytest

from dqnkit.config import random_streams
from dqnkit.config.random_streams import Stream, actor_key, stream_key, stream_seeds


def test_streams_and_seeds_have_different_keys() -> None:
    keys = [stream_key(seed, stream) for seed in range(200) for stream in Stream]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)


def test_keys_never_change() -> None:
    """Recorded learning curves and resumed runs depend on them."""
    assert [stream.value for stream in Stream] == list(range(12))
    assert stream_key(0, Stream.WEIGHTS) == 4_334_430_513_956_379_144
    assert stream_key(1, Stream.TRAINING) == 637_987_770_806_161_565
    assert actor_key(1, 2, 300) == 575_475_797_709_236_859
    assert stream_seeds(1, 0, 3) == [917752063, 865519474, 660112278]


def test_the_largest_seed_has_keys() -> None:
    assert 0 <= stream_key(2**63 - 1, Stream.WEIGHTS) < 2**63


def test_an_actor_that_joins_again_has_another_key() -> None:
    keys = {
        actor_key(seed, number, step)
        for seed in range(3)
        for number in (0, 1, 2**32)
        for step in (0, 1, 10_000)
    }
    assert len(keys) == 27
    assert all(0 <= key < 2**63 for key in keys)
    assert stream_key(0, Stream.ACTORS) not in keys


def test_episodes_of_training_evaluation_and_rendering_have_different_keys() -> None:
    makers = (
        random_streams.training_evaluation_keys,
        random_streams.later_evaluation_keys,
        random_streams.rendering_keys,
    )
    keys = [key for make, seed in itertools.product(makers, range(50)) for key in make(seed)]
    training = [stream_key(seed, stream) for seed in range(50) for stream in list(Stream)[:3]]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & set(training)


def test_avoided_seeds_are_never_returned() -> None:
    key = stream_key(0, Stream.LATER_EVALUATION)
    free = stream_seeds(key, 3, 100)
    avoided = frozenset(free[::2])
    given = stream_seeds(key, 3, 100, avoided)
    assert not avoided & set(given)
    assert given[:50] == free[1::2]
    assert len(set(given)) == 100


@pytest.mark.parametrize("counter", [0, 1, -1, 2**63])
def test_seeds_follow_from_key_and_counter_and_fit_into_a_c_int(counter: int) -> None:
    given = stream_seeds(1, counter, 50)
    assert given == stream_seeds(1, counter, 50)
    assert given != stream_seeds(2, counter, 50)
    assert given != stream_seeds(1, counter + 1, 50)
    assert all(0 <= seed < 2**31 for seed in given)


def test_more_seeds_begin_with_the_same_ones() -> None:
    assert stream_seeds(1, 0, 100)[:10] == stream_seeds(1, 0, 10)


def test_training_environments_are_seeded_from_the_environment_stream() -> None:
    given = random_streams.training_environment_seeds(7, 4)
    assert given == stream_seeds(stream_key(7, Stream.ENVIRONMENTS), 0, 4)
    assert given != random_streams.training_environment_seeds(8, 4)
