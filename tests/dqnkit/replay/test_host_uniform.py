from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dqnkit.envs.specs import EnvSpec, ObservationKind
from dqnkit.errors import ConfigError
from dqnkit.replay.host_uniform import HostUniformReplay
from tests.dqnkit.replay.host_replays import spec as _spec
from tests.dqnkit.replay.playing import Oracle, play
from tests.specs import observation_spec


def test_samples_depend_on_the_generator_alone() -> None:
    replay, oracle = HostUniformReplay(60, 2, _spec()), Oracle(1)
    play(replay, oracle, 2, 100, seed=0)
    first, second, third = (replay.sample(np.random.default_rng(s), 50) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, third.frames)


def test_a_state_is_restored_row_by_row() -> None:
    replay, other = (HostUniformReplay(60, 2, _spec(frame_stack=2)) for _ in range(2))
    play(replay, Oracle(2), 2, 100, seed=3)
    state = replay.state()
    play(other, Oracle(2), 2, 30, seed=4)
    other.restore(state)
    other.restore(other.state())
    for mine, theirs in zip(replay.transitions()[:2], other.transitions()[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for name, array in other.state().items():
        np.testing.assert_array_equal(array, state[name])


def test_the_state_of_a_larger_replay_is_rejected() -> None:
    replay = HostUniformReplay(60, 2, _spec())
    play(replay, Oracle(1), 2, 20, seed=0)
    with pytest.raises(ConfigError, match="up to 11 rows"):
        HostUniformReplay(20, 2, _spec()).restore(replay.state())


@pytest.mark.parametrize(("num_envs", "stack"), [(1, 1), (4, 1), (2, 4)])
def test_the_smallest_replay_always_has_a_transition(num_envs: int, stack: int) -> None:
    smallest = num_envs * (stack + 1)
    with pytest.raises(ConfigError, match=f"keep at least {smallest} transitions"):
        HostUniformReplay(smallest - 1, num_envs, _spec(frame_stack=stack))
    replay = HostUniformReplay(smallest, num_envs, _spec(frame_stack=stack))
    envs, frames = np.arange(num_envs), np.zeros((num_envs, 2), np.float32)
    replay.begin(envs, frames)
    for length in (1, 5, 2, 1, 1, 20):
        for step in range(length):
            last = np.full(num_envs, step == length - 1)
            replay.add(envs, envs % 3, np.ones(num_envs, np.float32), last, frames)
            assert replay.num_transitions >= num_envs
        replay.begin(envs, frames)
        assert replay.num_transitions >= num_envs


@pytest.mark.parametrize(
    ("changes", "num_actions", "expected"),
    [
        ({"frame_shape": (4,)}, 2, 16 + 6),  # CartPole
        ({"frame_shape": (8,)}, 4, 32 + 6),  # LunarLander
        ({"frame_shape": (10, 10, 4), "dtype": "bool"}, 3, 50 + 6),  # MinAtar Breakout
        ({"frame_shape": (84, 84), "dtype": "uint8", "frame_stack": 4}, 6, 7056 + 7),  # Atari
        (
            {"kind": ObservationKind.DISCRETE, "frame_shape": (), "num_values": 16},
            4,
            1 + 6,
        ),  # FrozenLake
        (
            {"kind": ObservationKind.DISCRETE, "frame_shape": (), "num_values": 500},
            6,
            2 + 6,
        ),  # Taxi
    ],
)
def test_bytes_per_row_are_those_that_are_allocated(
    changes: dict[str, Any], num_actions: int, expected: int
) -> None:
    fields = {"kind": ObservationKind.IMAGE, "dtype": "float32"} | changes
    spec = EnvSpec("", observation_spec(**fields), num_actions)
    replay = HostUniformReplay(1_000, 1, spec)
    assert replay.bytes_per_row == expected
    allocated = sum(array.nbytes for array in replay._columns().values())
    assert allocated == expected * 1_001
