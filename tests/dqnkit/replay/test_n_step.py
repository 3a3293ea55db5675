"""n-step returns of every replay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.envs.specs import EnvSpec, ObservationKind
from dqnkit.envs.transitions import Transitions
from dqnkit.replay.graph_uniform import GraphUniformReplay
from tests.dqnkit.replay.host_replays import ALL, held, makers, needs_reverb
from tests.dqnkit.replay.n_step_cases import CASES, GAMMA, N_STEP, Case, Row, Step, n_step, steps
from tests.specs import observation_spec

Rows = dict[float, Row]
"""Rows by the observation that a transition starts at."""


def _in_graph(
    histories: list[list[Step]], capacity: int, n: int, gamma: float, jit_compile: bool = True
) -> Rows:
    num_envs = len(histories)
    replay = GraphUniformReplay(capacity, num_envs, 1, n, gamma)
    state = replay.initial_state()
    for together in zip(*histories, strict=True):
        observation, reward, terminated, done, led_to = map(np.float32, zip(*together, strict=True))
        transitions = Transitions(
            tf.constant(observation[:, None]),
            tf.zeros([num_envs], tf.int32),
            tf.constant(reward),
            tf.constant(1.0 - terminated),
            tf.constant(led_to[:, None]),
        )
        state = replay.add(state, transitions, tf.constant(done > 0))
    rows = tf.range(min(int(state.added), replay.capacity))
    given = tf.function(replay._transitions, jit_compile=jit_compile)(state, rows)
    return {
        float(start[0]): (float(total), float(discount), float(following[0]))
        for start, _, total, discount, following in zip(*(x.numpy() for x in given), strict=True)
    }


def _on_host(kind: str, histories: list[list[Step]], capacity: int, n: int, gamma: float) -> Rows:
    num_envs = len(histories)
    spec = EnvSpec("", observation_spec(ObservationKind.VECTOR, (1,), "float32"), 2)
    envs = np.arange(num_envs)
    before: list[Step | None] = [None] * num_envs
    with makers(kind) as make:
        replay = make(capacity, num_envs, spec, n, gamma)
        for together in zip(*histories, strict=True):
            columns = map(np.float32, zip(*together, strict=True))
            observation, reward, terminated, _, led_to = columns
            fresh = np.array([last is None or last.done for last in before])
            replay.begin(envs[fresh], observation[fresh, None])
            replay.add(envs, envs * 0, reward, terminated > 0, led_to[:, None])
            before = list(together)
        frames, scalars, *_ = held(replay)
    return {
        float(f[0, 0]): (float(total), float(discount), float(f[-1, 0]))
        for f, (_, total, discount) in zip(frames, scalars, strict=True)
    }


_in_numpy = partial(_on_host, "uniform")
_in_reverb = partial(_on_host, "reverb")


def _is_whole(history: list[Step], start: int, n: int) -> bool:
    """Return whether no later step can add to the return; Reverb stores only such transitions.

    Reverb's writer learns of a truncation only when the next episode begins.
    """
    following = history[start : start + n]
    ended = any(step.done for step in following[:-1]) or following[-1].terminated
    return len(following) == n or ended or (following[-1].done and following[-1] != history[-1])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_returns_computed_by_hand_in_the_graph(case: Case, jit_compile: bool) -> None:
    assert _in_graph([steps(case)], 8, N_STEP, GAMMA, jit_compile) == dict(enumerate(case.rows))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_returns_computed_by_hand_in_numpy(case: Case) -> None:
    assert _in_numpy([steps(case)], 8, N_STEP, GAMMA) == dict(enumerate(case.rows))


@needs_reverb
@pytest.mark.parametrize("case", CASES, ids=str)
def test_returns_computed_by_hand_in_reverb(case: Case) -> None:
    history = steps(case)
    whole = [start for start in range(5) if _is_whole(history, start, N_STEP)]
    expected = {start: case.rows[start] for start in whole}
    assert _in_reverb([history], 8, N_STEP, GAMMA) == expected
    assert len(expected) >= 3


def _play(rng: np.random.Generator, count: int, first: int) -> list[Step]:
    """Return the steps of random episodes in which every observation is different."""
    history = []
    for t in range(first, first + count):
        terminated, truncated = rng.random(2) < (0.12, 0.08)
        done = bool(terminated or truncated)
        history.append(Step(t, rng.normal(), bool(terminated), done, t + (0.5 if done else 1)))
    return history


@pytest.mark.parametrize(
    "read", [_in_graph, _in_numpy, pytest.param(_in_reverb, marks=needs_reverb)]
)
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("count", [4, 60])
@pytest.mark.parametrize("n", range(1, 11))
def test_returns_equal_those_of_a_naive_walk_through_the_history(
    read: Callable[..., Rows], num_envs: int, count: int, n: int
) -> None:
    rng = np.random.default_rng(n * count)
    histories = [_play(rng, count, 1_000 * env) for env in range(num_envs)]
    jit_compile = {"jit_compile": n == N_STEP} if read is _in_graph else {}  # compiling takes time
    given = read(histories, 30 * num_envs, n, 0.9, **jit_compile)
    expected = {
        step.observation: n_step(history, start, n, 0.9)
        for history in histories
        for start, step in enumerate(history)
    }
    if read is _in_reverb:
        # The newest 90 or 30 of the transitions that are whole.
        whole = {
            step.observation
            for history in histories
            for start, step in enumerate(history)
            if _is_whole(history, start, n)
        }
        assert set(given) <= whole
        assert len(given) == min(len(whole), 30 * num_envs)
    else:
        assert set(given) <= set(expected)
        assert len(given) >= num_envs * min(count, 18)  # NumPy's rings also hold last frames
    for start, row in given.items():
        np.testing.assert_allclose(row, expected[start], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", ALL)
def test_the_next_stack_is_that_at_the_end_of_the_return(kind: str, n: int) -> None:
    spec = EnvSpec("", observation_spec(ObservationKind.VECTOR, (1,), "float32", frame_stack=3), 2)
    env = np.array([0])
    with makers(kind) as make:
        replay = make(20, 1, spec, n, 0.5)
        replay.begin(env, np.float32([[0]]))
        for number in range(1, 6):
            replay.add(env, env, np.float32([1]), np.array([number == 5]), np.float32([[number]]))
        frames, scalars, *_ = held(replay)
    order = np.argsort(frames[:, 2, 0])
    frames, scalars = frames[order], scalars[order]
    observations, following = frames[:, :3, 0], frames[:, -3:, 0]
    np.testing.assert_array_equal(
        observations, [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    )
    ends = [min(start + n, 5) for start in range(5)]
    stacks = [[max(end - 2, 0), max(end - 1, 0), end] for end in ends]
    np.testing.assert_array_equal(following, stacks)
    lengths = [end - start for start, end in enumerate(ends)]
    np.testing.assert_allclose(scalars[:, 1], [2 - 0.5 ** (m - 1) for m in lengths])
    expected = [0.0 if e == 5 else 0.5 ** (m - 1) for e, m in zip(ends, lengths, strict=True)]
    np.testing.assert_allclose(scalars[:, 2], expected)
