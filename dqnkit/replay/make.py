"""The replay that a configuration asks for."""

from __future__ import annotations

from dqnkit.config import ReplayConfig
from dqnkit.replay.graph_prioritized import PrioritizedReplay
from dqnkit.replay.graph_uniform import UniformReplay
from dqnkit.replay.host_prioritized import PrioritizedHostReplay
from dqnkit.replay.host_uniform import HostReplay
from dqnkit.specs import EnvSpec


def graph_replay(
    config: ReplayConfig, num_envs: int, observation_size: int, n_step: int = 1, gamma: float = 1.0
) -> UniformReplay:
    """For transitions in the graph; arguments as of `UniformReplay`, with a block of `num_envs`.

    Raises:
      ConfigError: It is larger than the machine's memory.
    """
    if config.kind == "prioritized":
        return PrioritizedReplay(config, num_envs, observation_size, n_step, gamma)
    capacity = config.replay_buffer_max_length
    return UniformReplay(capacity, num_envs, observation_size, n_step, gamma)


def host_replay(
    config: ReplayConfig, num_envs: int, spec: EnvSpec, n_step: int = 1, gamma: float = 1.0
) -> HostReplay:
    """For frames of Gymnasium environments; arguments as of `HostReplay`.

    Raises:
      ConfigError: It is larger than the machine's memory, or too small for a transition.
    """
    if config.kind == "prioritized":
        return PrioritizedHostReplay(config, num_envs, spec, n_step, gamma)
    return HostReplay(config.replay_buffer_max_length, num_envs, spec, n_step, gamma)
