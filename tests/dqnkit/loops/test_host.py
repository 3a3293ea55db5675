"""Properties of the host loop alone; `test_base` has those of both loops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from dqnkit.config.sections import Config, EnvConfig
from dqnkit.envs.resolution import resolve
from dqnkit.errors import EnvironmentFailedError
from dqnkit.loops.host import HostLoop
from dqnkit.runs.components import make_host_loop, make_loop
from tests.conftest import ROOT
from tests.dqnkit.loops.test_base import assert_same
from tests.environments import view

Small = Callable[..., Config]


def _loop(config: Config, **kwargs: Any) -> HostLoop:
    update = {"id": "tests.environments:Corridor-v0", "kwargs": kwargs}
    env = config.env.model_copy(update=update)
    return make_host_loop(*resolve(config.model_copy(update={"env": env})))


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_a_restored_loop_has_everything_but_unfinished_episodes(small: Small, kind: str) -> None:
    config = small("env.num_envs=2", f"replay.kind={kind}")
    loop = _loop(config)
    loop.start()
    loop.advance(25)  # in the middle of an episode and of a log interval
    kept = loop.state()
    restored, again = _loop(config), _loop(config)
    for other in (restored, again):
        other.restore(kept)
    assert (restored.iteration, restored.env_steps) == (25, loop.env_steps)
    before, after = loop._replay.transitions(), restored._replay.transitions()
    np.testing.assert_array_equal(before.frames, after.frames)
    np.testing.assert_array_equal(before.scalars, after.scalars)
    np.testing.assert_array_equal(loop.policy_weights(), restored.policy_weights())
    metrics = restored.advance(35)
    assert [m.iteration for m in metrics] == [30, 40, 50, 60]
    # No transition joins the old episode to the new one.
    following = restored._replay.transitions().frames[..., 0]
    np.testing.assert_array_equal(following[:, 1], following[:, 0] + 1)
    again.advance(35)
    assert_same(restored.state(), again.state())


def test_environments_in_processes_train_like_those_in_sequence(small: Small) -> None:
    states = []
    for vectorization in ("sync", "async"):
        loop = _loop(small("env.num_envs=2", f"env.vectorization={vectorization}"))
        loop.start()
        loop.advance(20)
        states.append(loop.state())
        loop.close()
    assert_same(*states)


@pytest.mark.parametrize(
    ("observe", "settings"),
    [
        ("discrete", ()),
        ("image", ("network.conv_layer_params=[[4, 3, 1]]",)),
        ("image", ("network.conv_layer_params=[[4, 3, 1]]", "env.frame_stack=3")),
        ("channels_first", ("network.conv_layer_params=[[4, 3, 2], [4, 2, 1]]",)),
        ("bits", ("network.conv_layer_params=[[4, 3, 1]]", "env.frame_stack=2")),
        ("image", ("network.conv_layer_params=[]",)),
        ("nested", ()),
        ("matrix", ()),
        ("state", ("env.frame_stack=4",)),
    ],
)
def test_every_kind_of_observation_trains(
    small: Small, observe: str, settings: tuple[str, ...]
) -> None:
    loop = _loop(small("env.num_envs=2", *settings), observe=observe, length=6)
    loop.start()
    metrics = loop.advance(20)
    assert np.isfinite(metrics[-1].loss)
    assert metrics[-1].return_mean == 60.0
    loop.close()


def test_stacks_in_the_replay_are_the_observations_that_were_acted_on(small: Small) -> None:
    """Frames are stored once; sampled stacks repeat the first frame of an episode before it."""
    loop = _loop(
        small("env.frame_stack=3", "training.initial_collect_steps=12"), observe="image", length=5
    )
    loop.start()
    frames = loop._replay.transitions().frames
    assert frames.shape[1:] == (4, 6, 5)
    assert frames.dtype == np.uint8
    seen = frames[:, :, 0, 0].tolist()
    assert seen[:5] == [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    assert seen[5:10] == seen[:5]
    np.testing.assert_array_equal(frames[-1, 1:], loop._environment.observation[0])


def test_actions_are_offset_by_the_first_action_of_the_environment(small: Small) -> None:
    loop = _loop(small("exploration.epsilon=1"), first_action=7)  # the Corridor checks each
    loop.start()
    loop.advance(30)
    assert set(loop._replay.transitions().scalars[:, 0]) == {0.0, 1.0, 2.0}


def test_a_discrete_observation_is_stored_in_two_bytes(
    small: Small,
) -> None:
    loop = _loop(small(), observe="discrete")
    loop.start()
    frames = loop._replay.transitions().frames
    assert loop._replay._frames.dtype == np.uint16
    assert frames.dtype == np.uint16
    assert frames[:5].tolist() == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]  # counted from 0


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_bits_in_every_autoreset_mode(small: Small, mode: str) -> None:
    config = small("env.vectorization=vector_entry_point")
    loop = _loop(config, observe="bits", autoreset_mode=mode)
    loop.start()
    loop.advance(20)
    frames = loop._replay.transitions().frames
    for state in range(5):
        np.testing.assert_array_equal(frames[state, 1], view("bits", state + 1))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "ale_py:ALE/Pong-v5"])
def test_environments_with_vector_classes_of_their_own_train(small: Small, env_id: str) -> None:
    config = small(
        f"env.id={env_id}",
        "env.vectorization=vector_entry_point",
        "env.num_envs=2",
        "training.loop=host",
    )
    loop = make_loop(*resolve(config))
    loop.start()
    assert np.isfinite(loop.advance(10)[-1].loss)
    loop.close()


def test_environment_processes_keep_the_parents_signals_and_are_all_ended(small: Small) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGHUP)]
    loop = _loop(small("env.num_envs=2", "env.vectorization=async"))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGHUP)] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    loop.start()
    first, second = loop._environment._envs.processes
    for ignored in (signal.SIGINT, signal.SIGHUP):
        os.kill(second.pid, ignored)
    loop.advance(10)
    first.kill()
    with pytest.raises(EnvironmentFailedError, match=r"a process of .* has died in step"):
        loop.advance(10)
    loop.close()
    assert not first.is_alive()
    assert not second.is_alive()


def test_an_exception_of_an_environment_is_named(small: Small) -> None:
    loop = _loop(small("exploration.epsilon=1"), first_action=0)
    loop.start()
    loop._environment._envs.envs[0].unwrapped.action_space = gymnasium.spaces.Discrete(1, start=9)
    with pytest.raises(EnvironmentFailedError, match=r"failed in step \d+ .*: AssertionError.*fix"):
        loop.advance(10)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_rewards_that_are_not_finite_name_the_environment(small: Small, number: float) -> None:
    factor = {"tests.environments.Doubled": {"factor": number}}
    config = small()
    env = config.env.model_copy(update={"wrappers": EnvConfig(wrappers=[factor]).wrappers})
    loop = _loop(config.model_copy(update={"env": env}))
    with pytest.raises(EnvironmentFailedError, match=r"gave a reward that is not finite"):
        loop.start()


_INTERRUPTED_GROUP = """
import os, signal, sys, threading
from dqnkit.config import loading
from dqnkit.errors import InterruptedRun
from dqnkit.events import RunStarted
from dqnkit.runs.trainer import train

def interrupt(event):
    if isinstance(event, RunStarted):  # as a terminal's Ctrl-C does, in the middle of a chunk
        threading.Timer(1.5, os.killpg, (os.getpgid(0), signal.SIGINT)).start()

if __name__ == "__main__":
    config = loading.default_config("x", [
        "env.vectorization=async", "env.num_envs=2", "training.num_iterations=1000000",
        "evaluation.num_eval_episodes=2", "tracking.enabled=false",
    ])
    try:
        train(config, listener=interrupt)
    except InterruptedRun as error:
        sys.exit(f"raised: {error}")
"""


@pytest.mark.slow
def test_an_interrupt_of_the_terminal_reaches_all_processes_and_ends_the_run_cleanly() -> None:
    Path("interrupted.py").write_text(_INTERRUPTED_GROUP, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "interrupted.py"],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert "raised: interrupted by SIGINT after" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_bits_are_stored_as_bits(small: Small) -> None:
    loop = _loop(small(), observe="bits")
    loop.start()
    assert loop._replay._frames.shape[1:] == (12,)  # 90 bits
    frames = loop._replay.transitions().frames
    for state in range(5):
        np.testing.assert_array_equal(frames[state, 0], view("bits", state))
