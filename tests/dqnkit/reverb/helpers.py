"""Configurations, replays and experience for the tests of Reverb."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.tables import RateLimits, TransitionSpec

RNG = np.random.default_rng(0)
ENV = np.array([0])
FRAME = np.zeros(2, np.float32)
LOCAL = {"host": "127.0.0.1", "port": None, "checkpoints": None}
"""Arguments of `serve_experiment` for a server at a free port of this machine."""


class BlockedError(Exception):
    """The rate limiter blocks."""


def raise_blocked() -> NoReturn:
    """An `OnWait` that gives up at once."""
    raise BlockedError


def reverb_config(*assignments: str) -> Config:
    """Return the configuration of a replay of 50 transitions, from which batches of 8 are drawn."""
    return loading.default_config(
        "x",
        [
            "replay.kind=reverb",
            "replay.replay_buffer_max_length=50",
            "training.batch_size=8",
            *assignments,
        ],
    )


def remote_config(port: int, *assignments: str) -> Config:
    """Return `reverb_config` for a server at a port of this machine."""
    return reverb_config(f"replay.address=127.0.0.1:{port}", *assignments)


def remote_replay(port: int, *assignments: str) -> ReverbReplay:
    """Connect to the server of a CartPole experiment, as its learner and only environment."""
    config, spec = resolve(remote_config(port, *assignments))
    transition_spec = TransitionSpec(spec, config.agent.n_step, config.agent.gamma)
    return ReverbReplay(config.replay, 1, transition_spec, RateLimits.from_config(config))


def add(replay: ReverbReplay, count: int, size: int = 2) -> None:
    """Add steps of one episode: step i has reward i and leads to a frame of i + 1."""
    replay.begin(ENV, np.zeros((1, size), np.float32))
    for number in range(count):
        frame = np.full((1, size), number + 1, np.float32)
        replay.add(ENV, ENV, np.float32([number]), np.array([False]), frame)
