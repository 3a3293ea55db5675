"""The replay that a configuration asks for."""

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
    """For transitions in the graph; arguments as of `GraphUniformReplay`, with a block of `num_envs`.

    Raises:
      ConfigError: It is larger than the machine's memory.
    """
    if config.kind == "prioritized":
        return GraphPrioritizedReplay(config, num_envs, observation_size, n_step, gamma)
    capacity = config.replay_buffer_max_length
    return GraphUniformReplay(capacity, num_envs, observation_size, n_step, gamma)


def make_host_replay(config: Config, spec: EnvSpec) -> HostReplay:
    """For frames of Gymnasium environments.

    Raises:
      ConfigError: It is larger than the machine's memory, too small for a transition, or
        its server keeps other things.
      ReplayError: Its server does not answer.
    """
    replay, agent = config.replay, config.agent
    num_envs, steps = config.env.num_envs, (spec, agent.n_step, agent.gamma)
    if replay.kind == "reverb":
        from dqnkit.reverb.replay import ReverbReplay  # where it is installed
        from dqnkit.reverb.tables import RateLimits, TransitionSpec

        # One process that collects and learns in turn keeps to its ratio by itself.
        limits = (
            RateLimits.of(config) if replay.samples_per_insert or replay.address else RateLimits()
        )
        return ReverbReplay(replay, num_envs, TransitionSpec(*steps), limits)
    if replay.kind == "prioritized":
        return HostPrioritizedReplay(replay, num_envs, *steps)
    return HostUniformReplay(replay.replay_buffer_max_length, num_envs, *steps)
