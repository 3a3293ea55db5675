from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError
from dqnkit.replay.factory import make_graph_replay, make_host_replay
from dqnkit.replay.graph_prioritized import GraphPrioritizedReplay
from dqnkit.replay.graph_uniform import GraphUniformReplay
from dqnkit.replay.host_prioritized import HostPrioritizedReplay
from dqnkit.replay.host_uniform import HostUniformReplay
from tests.dqnkit.replay.host_replays import spec

Small = Callable[..., Config]


@pytest.mark.parametrize(
    ("kind", "expected"), [("uniform", GraphUniformReplay), ("prioritized", GraphPrioritizedReplay)]
)
def test_the_graph_replay_is_the_configured_one(small: Small, kind: str, expected: type) -> None:
    config = small(f"replay.kind={kind}", "replay.replay_buffer_max_length=50").replay
    replay = make_graph_replay(config, num_envs=3, observation_size=2)
    assert type(replay) is expected
    assert (replay.capacity, replay.num_envs) == (48, 3)


@pytest.mark.parametrize(
    ("kind", "expected"), [("uniform", HostUniformReplay), ("prioritized", HostPrioritizedReplay)]
)
def test_the_host_replay_is_the_configured_one(small: Small, kind: str, expected: type) -> None:
    settings = [f"replay.kind={kind}", "training.loop=host", "env.num_envs=2"]
    replay = make_host_replay(small(*settings, "agent.n_step=3"), spec(frame_stack=2))
    assert type(replay) is expected
    assert replay.frames_per_sample == 4  # two stacks, which n steps set apart
    assert replay.num_transitions == 0


def test_the_replay_of_reverb_is_made_elsewhere(small: Small) -> None:
    with pytest.raises(ValueError, match="make_reverb_replay"):
        make_host_replay(small("replay.kind=reverb", "training.loop=host"), spec())


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_a_replay_that_does_not_fit_into_memory_is_rejected(small: Small, kind: str) -> None:
    config = small(f"replay.kind={kind}", f"replay.replay_buffer_max_length={10**12}")
    with pytest.raises(ConfigError, match="GiB"):
        make_graph_replay(config.replay, 1, 2)
    with pytest.raises(ConfigError, match="GiB"):
        make_host_replay(config, spec())
