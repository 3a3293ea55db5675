"""The contract of `HostReplay`, checked against lists of all transitions that were added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dqnkit.errors import ConfigError
from tests.dqnkit.replay.host_replays import ALL, Make, held, makers, spec
from tests.dqnkit.replay.playing import Oracle, play


@pytest.fixture(params=ALL)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with makers(request.param) as made:
        yield made


def _rows(frames: np.ndarray, scalars: np.ndarray) -> set[tuple[Any, ...]]:
    return {
        (tuple(map(float, f.reshape(f.shape[0], -1)[:, 0])), int(a), float(r), float(d))
        for f, (a, r, d) in zip(frames, scalars, strict=True)
    }


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("steps", [5, 40, 300])
def test_the_newest_transitions_are_kept_and_no_others(
    make: Make, stack: int, num_envs: int, steps: int
) -> None:
    replay, oracle = make(60, num_envs, spec(frame_stack=stack)), Oracle(stack)
    play(replay, oracle, num_envs, steps, seed=steps)
    kept = _rows(*held(replay)[:2])
    assert len(kept) == replay.num_transitions
    everything = [
        {(tuple(n), a, float(r), d) for n, a, r, d in transitions}
        for transitions in oracle.transitions
    ]
    assert kept <= set().union(*everything)
    for transitions in oracle.transitions:
        of_env = [t for t in transitions if (tuple(t[0]), t[1], float(t[2]), t[3]) in kept]
        assert of_env == transitions[len(transitions) - len(of_env) :]  # the newest of each ring
        # A ring has 20 or 60 rows. No transition starts at an episode's last frame, or where a
        # stack has lost its oldest frame to overwriting.
        assert len(of_env) == len(transitions) or len(of_env) > 60 // num_envs * 0.6 - stack


@pytest.mark.parametrize("stack", [1, 3])
def test_all_transitions_are_sampled_equally_often(make: Make, stack: int) -> None:
    replay, oracle = make(60, 3, spec(frame_stack=stack)), Oracle(stack)
    rng = play(replay, oracle, 3, 200, seed=0)
    kept = sorted(_rows(*held(replay)[:2]))
    draws = 400 * len(kept)
    sample = replay.sample(rng, draws)
    newest = sample.frames[:, -1, 0]
    numbers = np.array([row[0][-1] for row in kept])
    counts = np.array([np.count_nonzero(newest == number) for number in numbers])
    assert counts.sum() == draws
    # Pearson's chi-squared has len - 1 degrees of freedom: mean n, deviation sqrt(2 n).
    statistic = ((counts - 400) ** 2 / 400).sum()
    assert abs(statistic - len(kept)) < 4.5 * np.sqrt(2 * len(kept))


@pytest.mark.parametrize("steps", [7, 100])
@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_state_is_restored_into_another_replay(make: Make, steps: int, num_envs: int) -> None:
    replay = make(60, num_envs, spec(frame_stack=2))
    play(replay, Oracle(2), num_envs, steps, seed=3)
    state = replay.state()
    before = _rows(*held(replay)[:2])
    play(replay, Oracle(2), num_envs, 7, seed=5)  # must not change the state
    other = make(60, num_envs, spec(frame_stack=2))
    play(other, Oracle(2), num_envs, 30, seed=4)
    other.restore(state)
    other.restore(other.state())
    assert _rows(*held(other)[:2]) == before
    # The next frame starts an episode; no transition joins it to an unfinished one.
    envs = np.arange(num_envs)
    other.begin(envs, np.full((num_envs, 2), -1, np.float32))
    assert -1.0 not in held(other).frames
    rewards, terminated = np.zeros(num_envs, np.float32), np.zeros(num_envs, np.bool_)
    other.add(envs, envs * 0, rewards, terminated, np.full((num_envs, 2), -2, np.float32))
    new = _rows(*held(other)[:2]) - before
    assert new == {((-1.0, -1.0, -2.0), 0, 0.0, 1.0)}


@pytest.mark.parametrize("changes", [{"frame_stack": 3}, {"frame_shape": (3,)}])
def test_the_state_of_another_replay_is_rejected(make: Make, changes: dict[str, Any]) -> None:
    replay = make(60, 2, spec())
    play(replay, Oracle(1), 2, 20, seed=0)
    with pytest.raises(ConfigError, match="the saved replay holds"):
        make(60, 2, spec(**changes)).restore(replay.state())


def test_an_incomplete_state_is_rejected() -> None:
    with makers("uniform") as make:
        replay = make(60, 2, spec())
        play(replay, Oracle(1), 2, 20, seed=0)
        state = replay.state()
        del state["rewards"]
        with pytest.raises(ConfigError, match="the saved replay holds"):
            make(60, 2, spec()).restore(state)


def test_an_empty_replay_has_nothing_to_sample(make: Make) -> None:
    replay = make(60, 1, spec())
    replay.begin(np.array([0]), np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="nothing to sample"):
        replay.sample(np.random.default_rng(0), 4)


@pytest.mark.parametrize(
    ("dtype", "frame_shape", "kind"),
    [("uint8", (4, 4), "image"), ("bool", (3, 3, 2), "image"), ("uint8", (), "discrete")],
)
def test_sampled_frames_equal_the_added_ones(
    make: Make, dtype: str, frame_shape: tuple[int, ...], kind: str
) -> None:
    replay = make(
        40,
        1,
        spec(
            kind=kind,
            dtype=dtype,
            frame_shape=frame_shape,
            **({"num_values": 2} if kind == "discrete" else {}),
        ),
    )
    rng, env = np.random.default_rng(0), np.array([0])
    frames = rng.integers(2, size=(12, *frame_shape)).astype(dtype)
    replay.begin(env, frames[:1])
    for number in range(1, 12):
        step = np.float32([number])
        replay.add(env, env, step, np.array([False]), frames[number : number + 1])
    sample = held(replay)
    assert sample.frames.dtype == np.dtype(dtype)
    assert len(sample.rows) == 11
    for pair, (_, number, _) in zip(sample.frames, sample.scalars, strict=True):
        np.testing.assert_array_equal(pair, frames[int(number) - 1 : int(number) + 1])
