"""Factories of the replays for the graph loop and the host loop."""

from __future__ import annotations

from dqnkit.config.sections import Config, ReplayConfig
from dqnkit.envs.specs import EnvSpec
from dqnkit.replay.base import HostReplay
from dqnkit.replay.graph_prioritized import GraphPrioritizedReplay
from dqnkit.replay.graph_uniform import GraphUniformReplay
from dqnkit.replay.host_prioritized import HostPrioritizedReplay
from dqnkit.replay.host_uniform import HostUniformReplay


def make_graph_replay(
    config: ReplayConfig, num_envs: int, observation_size: int, n_step: int = 1, gamma: float = 1.0
) -> GraphUniformReplay:
    """Return the graph loop's replay.

    Args:
      config: The resolved replay section.
      num_envs: Number of environments, each of which adds one transition at a time.
      observation_size: Number of values in an observation.
      n_step: Number of rewards summed in a sampled transition.
      gamma: Discount factor in that sum.

    Raises:
      ConfigError: If the replay does not fit into memory.
    """
    if config.kind == "prioritized":
        return GraphPrioritizedReplay(config, num_envs, observation_size, n_step, gamma)
    capacity = config.replay_buffer_max_length
    return GraphUniformReplay(capacity, num_envs, observation_size, n_step, gamma)


def make_host_replay(config: Config, spec: EnvSpec) -> HostReplay:
    """Return the host loop's replay in NumPy, uniform or prioritized.

    Args:
      config: The resolved configuration.
      spec: Specification of its environment.

    Raises:
      ConfigError: If the replay does not fit into memory, or is too small for a transition.
      ValueError: If `replay.kind` is `reverb`, which `dqnkit.reverb.replay` makes.
    """
    replay, agent, num_envs = config.replay, config.agent, config.env.num_envs
    if replay.kind == "reverb":
        raise ValueError(
            "replay.kind=reverb: make this replay by `dqnkit.reverb.replay.make_reverb_replay`"
        )
    if replay.kind == "prioritized":
        return HostPrioritizedReplay(replay, num_envs, spec, agent.n_step, agent.gamma)
    max_length = replay.replay_buffer_max_length
    return HostUniformReplay(max_length, num_envs, spec, agent.n_step, agent.gamma)
