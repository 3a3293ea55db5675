from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from dqnkit.errors import ConfigError
from dqnkit.replay.host_uniform import HostReplay
from dqnkit.specs import EnvSpec, Kind, ObservationSpec


def _spec(**changes: Any) -> EnvSpec:
    fields = {"kind": Kind.VECTOR, "frame_shape": (2,), "dtype": "float32"} | changes
    return EnvSpec("", ObservationSpec(**fields), num_actions=3)


@dataclass
class Oracle:
    """What a replay should hold, in lists: every transition ever added, with its stack."""

    stack: int
    history: list[list[np.ndarray]] = field(default_factory=list)
    transitions: list[list[tuple[list[float], int, float, float]]] = field(default_factory=list)

    def begin(self, env: int, frame: np.ndarray) -> None:
        while len(self.history) <= env:
            self.history.append([])
            self.transitions.append([])
        self.history[env] = [frame] * self.stack

    def add(self, env: int, action: int, reward: float, terminal: bool, frame: np.ndarray) -> None:
        self.history[env].append(frame)
        numbers = [float(f.flat[0]) for f in self.history[env][-self.stack - 1 :]]
        self.transitions[env].append((numbers, action, reward, float(not terminal)))


def play(
    replay: HostReplay, oracle: Oracle, num_envs: int, steps: int, seed: int
) -> np.random.Generator:
    """Random episodes; every frame is a number that never comes twice."""
    rng = np.random.default_rng(seed)
    number = 0

    def frames(count: int) -> np.ndarray:
        nonlocal number
        number += count
        numbers = np.arange(number - count, number, dtype=np.float32)
        return np.repeat(numbers[:, None], 2, axis=1)

    first = frames(num_envs)
    replay.begin(np.arange(num_envs), first)
    for env in range(num_envs):
        oracle.begin(env, first[env])
    for _ in range(steps):
        envs = np.flatnonzero(rng.random(num_envs) < 0.8)  # some spend the step on a reset
        actions, rewards = rng.integers(3, size=envs.size), rng.random(envs.size, np.float32)
        terminal, ended = rng.random(envs.size) < 0.15, rng.random(envs.size) < 0.1
        following = frames(envs.size)
        replay.add(envs, actions, rewards, terminal, following)
        for i, env in enumerate(envs):
            oracle.add(env, actions[i], rewards[i], terminal[i], following[i])
        begun = envs[terminal | ended]
        first = frames(begun.size)
        replay.begin(begun, first)
        for i, env in enumerate(begun):
            oracle.begin(env, first[i])
    return rng


def _rows(frames: np.ndarray, scalars: np.ndarray) -> set[tuple[Any, ...]]:
    return {
        (tuple(map(float, f.reshape(f.shape[0], -1)[:, 0])), int(a), float(r), float(d))
        for f, (a, r, d) in zip(frames, scalars, strict=True)
    }


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("steps", [5, 40, 300])
def test_it_holds_the_newest_transitions_and_no_others(
    stack: int, num_envs: int, steps: int
) -> None:
    replay, oracle = HostReplay(60, num_envs, _spec(frame_stack=stack)), Oracle(stack)
    play(replay, oracle, num_envs, steps, seed=steps)
    held = _rows(*replay.transitions()[:2])
    assert len(held) == replay.num_transitions
    everything = [
        {(tuple(n), a, float(r), d) for n, a, r, d in transitions}
        for transitions in oracle.transitions
    ]
    assert held <= set().union(*everything)
    for transitions in oracle.transitions:
        mine = [t for t in transitions if (tuple(t[0]), t[1], float(t[2]), t[3]) in held]
        assert mine == transitions[len(transitions) - len(mine) :]  # the newest of each ring
        # A ring of 20 or 60 rows: what is not a transition is an episode's last frame, and where
        # rows are overwritten, a stack that has lost its oldest frame.
        assert len(mine) == len(transitions) or len(mine) > 60 // num_envs * 0.6 - stack


@pytest.mark.parametrize("stack", [1, 3])
def test_every_transition_is_sampled_as_often_as_any_other(stack: int) -> None:
    replay, oracle = HostReplay(60, 3, _spec(frame_stack=stack)), Oracle(stack)
    rng = play(replay, oracle, 3, 200, seed=0)
    held = sorted(_rows(*replay.transitions()[:2]))
    draws = 400 * len(held)
    sample = replay.sample(rng, draws)
    newest = sample.frames[:, -1, 0]
    numbers = np.array([row[0][-1] for row in held])
    counts = np.array([np.count_nonzero(newest == number) for number in numbers])
    assert counts.sum() == draws
    # Pearson's chi-squared has len - 1 degrees of freedom: mean n, deviation sqrt(2 n).
    statistic = ((counts - 400) ** 2 / 400).sum()
    assert abs(statistic - len(held)) < 4.5 * np.sqrt(2 * len(held))


def test_samples_follow_the_generator() -> None:
    replay, oracle = HostReplay(60, 2, _spec()), Oracle(1)
    play(replay, oracle, 2, 100, seed=0)
    first, second, third = (replay.sample(np.random.default_rng(s), 50) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, third.frames)


@pytest.mark.parametrize("steps", [7, 100])
@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_state_goes_back_into_another_replay(steps: int, num_envs: int) -> None:
    replay, oracle = HostReplay(60, num_envs, _spec(frame_stack=2)), Oracle(2)
    play(replay, oracle, num_envs, steps, seed=3)
    state = replay.state()
    held = replay.transitions()
    play(replay, oracle, num_envs, 7, seed=5)  # which a state knows nothing of
    other = HostReplay(60, num_envs, _spec(frame_stack=2))
    play(other, Oracle(2), num_envs, 30, seed=4)
    other.restore(state)
    other.restore(other.state())
    for mine, theirs in zip(held[:2], other.transitions()[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for name, array in other.state().items():
        np.testing.assert_array_equal(array, state[name])
    # The next frame starts an episode: nothing joins it to the one that was under way.
    other.begin(np.arange(num_envs), np.full((num_envs, 2), -1, np.float32))
    assert -1.0 not in other.transitions().frames


@pytest.mark.parametrize("changes", [{"frame_stack": 3}, {"frame_shape": (3,)}])
def test_the_state_of_another_replay_is_refused(changes: dict[str, Any]) -> None:
    replay = HostReplay(60, 2, _spec())
    play(replay, Oracle(1), 2, 20, seed=0)
    for other in (HostReplay(60, 2, _spec(**changes)), HostReplay(60, 3, _spec())):
        with pytest.raises(ConfigError, match="the saved replay holds"):
            other.restore(replay.state())
    with pytest.raises(ConfigError, match="up to 11 rows"):
        HostReplay(20, 2, _spec()).restore(replay.state())


@pytest.mark.parametrize(("num_envs", "stack"), [(1, 1), (4, 1), (2, 4)])
def test_the_smallest_replay_always_has_a_transition(num_envs: int, stack: int) -> None:
    smallest = num_envs * (stack + 1)
    with pytest.raises(ConfigError, match=f"keep at least {smallest} transitions"):
        HostReplay(smallest - 1, num_envs, _spec(frame_stack=stack))
    replay = HostReplay(smallest, num_envs, _spec(frame_stack=stack))
    envs, frames = np.arange(num_envs), np.zeros((num_envs, 2), np.float32)
    replay.begin(envs, frames)
    for length in (1, 5, 2, 1, 1, 20):
        for step in range(length):
            last = np.full(num_envs, step == length - 1)
            replay.add(envs, envs % 3, np.ones(num_envs, np.float32), last, frames)
            assert replay.num_transitions >= num_envs
        replay.begin(envs, frames)
        assert replay.num_transitions >= num_envs


def test_an_empty_replay_does_not_search_for_ever() -> None:
    replay = HostReplay(60, 1, _spec())
    replay.begin(np.array([0]), np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="nothing to sample"):
        replay.sample(np.random.default_rng(0), 4)


@pytest.mark.parametrize(
    ("changes", "num_actions", "expected"),
    [
        ({"frame_shape": (4,)}, 2, 16 + 6),  # CartPole
        ({"frame_shape": (8,)}, 4, 32 + 6),  # LunarLander
        ({"frame_shape": (10, 10, 4), "dtype": "bool"}, 3, 50 + 6),  # MinAtar Breakout
        ({"frame_shape": (84, 84), "dtype": "uint8", "frame_stack": 4}, 6, 7056 + 7),  # Atari
        ({"kind": Kind.DISCRETE, "frame_shape": (), "num_values": 16}, 4, 1 + 6),  # FrozenLake
        ({"kind": Kind.DISCRETE, "frame_shape": (), "num_values": 500}, 6, 2 + 6),  # Taxi
    ],
)
def test_a_row_takes_the_bytes_that_it_says(
    changes: dict[str, Any], num_actions: int, expected: int
) -> None:
    fields = {"kind": Kind.IMAGE, "dtype": "float32"} | changes
    spec = EnvSpec("", ObservationSpec(**fields), num_actions)
    replay = HostReplay(1_000, 1, spec)
    assert replay.bytes_per_row == expected
    allocated = sum(array.nbytes for array in replay._columns().values())
    assert allocated == expected * 1_001
