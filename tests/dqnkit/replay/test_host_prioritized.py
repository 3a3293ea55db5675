from __future__ import annotations

import numpy as np
import pytest

from dqnkit.config.sections import ReplayConfig
from dqnkit.envs.specs import EnvSpec, ObservationKind
from dqnkit.replay.host_prioritized import HostPrioritizedReplay
from tests.dqnkit.replay.playing import Oracle, play
from tests.specs import observation_spec

SPEC = EnvSpec("", observation_spec(ObservationKind.VECTOR, (1,), "float32"), 2)


def _config(max_length: int) -> ReplayConfig:
    return ReplayConfig(kind="prioritized", replay_buffer_max_length=max_length, alpha=0.6)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("stack", [1, 2, 4])
def test_only_rows_at_which_a_transition_starts_have_a_priority(num_envs: int, stack: int) -> None:
    """An overwritten frame also invalidates the transitions whose stacks contain it."""
    spec = EnvSpec(
        "", observation_spec(ObservationKind.VECTOR, (2,), "float32", frame_stack=stack), 3
    )
    replay = HostPrioritizedReplay(_config(40), num_envs, spec)
    for steps in (5, 30, 90):
        play(replay, Oracle(stack), num_envs, steps, seed=steps)
        starts = replay.transitions().rows
        np.testing.assert_array_equal(np.flatnonzero(replay._tree.leaves), starts)
        sampled = replay.sample(np.random.default_rng(0), 4_000)
        assert set(sampled.rows) == set(starts)


def test_the_last_frame_of_an_episode_is_never_sampled_as_a_start() -> None:
    replay = HostPrioritizedReplay(_config(12), 1, SPEC)
    env, number = np.array([0]), 0
    for _ in range(9):
        replay.begin(env, np.float32([[number]]))
        for step in range(3):
            number += 1
            replay.add(env, env, np.float32([0]), np.array([step == 2]), np.float32([[number]]))
        starts = set(replay.sample(np.random.default_rng(0), 300).frames[:, 0, 0].astype(int))
        assert starts == set(replay.transitions().frames[:, 0, 0].astype(int))
        number += 1


def test_a_state_is_restored_with_its_priorities() -> None:
    replay, other = (HostPrioritizedReplay(_config(20), 2, SPEC) for _ in range(2))
    envs = np.arange(2)
    replay.begin(envs, np.float32([[0], [1]]))
    for number in range(15):
        frames = np.float32([[number], [number]])
        replay.add(envs, envs, np.zeros(2, np.float32), np.zeros(2, np.bool_), frames)
        rows = replay.sample(np.random.default_rng(number), 3).rows
        replay.update_priorities(rows, np.float32([number, 1, 2])[[0, 0, 0]])
    other.restore(replay.state())
    first, second = (each.sample(np.random.default_rng(0), 500) for each in (replay, other))
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.priorities, second.priorities)
    for each in (replay, other):  # new transitions start with the same priority
        each.begin(envs, np.float32([[7], [7]]))
        each.add(envs, envs, np.zeros(2, np.float32), np.ones(2, np.bool_), np.float32([[8], [8]]))
    np.testing.assert_array_equal(replay._tree.leaves, other._tree.leaves)
    assert replay._tree.total == pytest.approx(other._tree.total)
