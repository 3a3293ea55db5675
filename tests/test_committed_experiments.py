"""Every committed experiment runs, with an environment, network and wrappers that fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs import factory
from dqnkit.envs.resolution import resolve
from dqnkit.loops.host import HostLoop
from dqnkit.replay.factory import make_host_replay
from dqnkit.replay.host_uniform import HostUniformReplay
from dqnkit.runs.trainer import train
from tests.dqnkit.replay.host_replays import EXPERIMENTS

BRIEF = [
    "training.num_iterations=10",
    "training.initial_collect_steps=100",
    "training.batch_size=16",
    "training.log_interval=5",
    "replay.replay_buffer_max_length=1000",
    "evaluation.num_eval_episodes=2",
    "evaluation.final_episodes=2",
    "evaluation.max_episode_steps=20",
]


VARIATIONS = {
    *("acrobot", "acrobot-100k", "cartpole", "cartpole-50k", "mountain-car", "mountain-car-120k"),
    *("rainbow-lite-acrobot", "rainbow-lite-mountain-car"),
}
"""Experiments left to the slow suite: others cover their kinds of agent and replay."""
assert set(loading.experiment_names()) >= VARIATIONS


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(*each.values, marks=[*each.marks, pytest.mark.slow])
        if each.values[0] in VARIATIONS
        else each
        for each in EXPERIMENTS
    ],
)
def test_it_runs_from_end_to_end(name: str) -> None:
    result = train(loading.load(name, BRIEF))
    assert result.iterations == 10
    assert np.isfinite(result.final.summary.mean)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_values_that_it_leaves_open_are_resolved_from_its_environment(name: str) -> None:
    config, spec = resolve(loading.load(name))
    assert resolve(config) == (config, spec)
    assert loading.load(name).training.loop == "auto"


def _pong(*assignments: str) -> Config:
    return resolve(loading.load("atari-pong", [*BRIEF, *assignments]))[0]


def _wrappers(env: Any) -> list[str]:
    names = []
    while hasattr(env, "env"):
        names.append(type(env).__name__)
        env = env.env
    return names


def test_pong_is_preprocessed_as_in_the_nature_dqn_and_evaluated_without_clipping() -> None:
    config = _pong()
    training = factory.make_env(config.env)
    evaluation = factory.make_env(config.evaluation_env)
    assert _wrappers(training)[:2] == ["ClipReward", "AtariPreprocessing"]
    assert "ClipReward" not in _wrappers(evaluation)
    assert training.get_wrapper_attr("terminal_on_life_loss")
    assert not evaluation.get_wrapper_attr("terminal_on_life_loss")
    for env in (training, evaluation):
        assert (env.get_wrapper_attr("frame_skip"), env.get_wrapper_attr("noop_max")) == (4, 30)
        assert env.unwrapped._frameskip == 1  # type: ignore[attr-defined]
        env.close()


@pytest.mark.slow
def test_pong_keeps_each_frame_once_and_stacks_four() -> None:
    config, spec = resolve(_pong("replay.replay_buffer_max_length=3000"))
    assert config.network.conv_layer_params == ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    replay = make_host_replay(config, spec)
    assert isinstance(replay, HostUniformReplay)
    loop = HostLoop(config, spec, replay)
    loop.start()
    loop.advance(500)
    assert replay.bytes_per_row == 84 * 84 + 7
    frames, scalars, *_ = replay.transitions()
    assert (frames.shape, frames.dtype) == ((loop.env_steps, 5, 84, 84), np.uint8)
    assert set(scalars[:, 1]) <= {-1.0, 0.0, 1.0}
    assert -1.0 in scalars[:, 1]  # the opponent scored
    # Within an episode, a stack is the previous one shifted by one frame.
    moved = (frames[1:, :-1] == frames[:-1, 1:]).all(axis=(1, 2, 3))
    assert np.count_nonzero(~moved) <= 5
    loop.close()
