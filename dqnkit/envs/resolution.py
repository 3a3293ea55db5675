"""What a configuration leaves open, decided by its environment."""

from __future__ import annotations

import contextlib

from dqnkit._system.extras import check_installed
from dqnkit.config.sections import AgentConfig, Config, NetworkConfig
from dqnkit.envs import factory, registry
from dqnkit.envs.specs import EnvSpec, Kind, ObservationSpec, convolution_shapes
from dqnkit.errors import ConfigError

Convolutions = tuple[tuple[int, int, int], ...]

IMAGE_NETWORKS: tuple[tuple[Convolutions, tuple[int, ...]], ...] = (
    # Mnih et al. (2015), for frames of 84 by 84
    (((32, 8, 4), (64, 4, 2), (64, 3, 1)), (512,)),
    # MinAtar (Young and Tian, 2019), for 10 by 10
    (((16, 3, 1),), (128,)),
)
"""Convolutions [filters, kernel, stride] and dense layers; the first that an image is large
enough for is its default."""
_DENSE = (100, 50)
"""Of TF-Agents' tutorial, where no image is."""


def resolve(config: Config) -> tuple[Config, EnvSpec]:
    """Looks at the environment, and fills in loop, network and range of values.

    Returns:
      The configuration with nothing left open (to resolve it again changes nothing), and the
      environment's spec.

    Raises:
      ConfigError: Environment and configuration do not fit.
      UnsupportedEnvironmentError: The environment cannot be made, or a DQN cannot use it.
    """
    if config.replay.kind == "reverb":
        check_installed("replay.kind=reverb")
    spec = factory.describe_env(config.env)
    _check_evaluation(config, spec)
    training = config.training.model_copy(update={"loop": _loop(config)})
    found = {
        "training": training,
        "network": _network(config.network, spec.observation),
        "agent": _agent(config),
    }
    return config.model_copy(update=found), spec


def _check_evaluation(config: Config, spec: EnvSpec) -> None:
    """A policy plays in evaluation what it was trained for, whatever wrappers stand there."""
    wrappers = config.evaluation.wrappers
    if wrappers is None:
        return
    seen = factory.describe_env(config.env.model_copy(update={"wrappers": wrappers}))
    if seen != spec:
        raise ConfigError(
            f"evaluation.wrappers: observations and actions become {seen.observation} and "
            f"{seen.num_actions}, and training has {spec.observation} and {spec.num_actions}; only "
            "rewards and ends of episodes may differ"
        )


def _loop(config: Config) -> str:
    reason = registry.graph_objection(config.env)
    if reason is None and config.evaluation.wrappers:
        reason = "evaluation.wrappers is not empty, and wrappers run in Python"
    if config.replay.kind == "reverb":
        reason = "replay.kind=reverb keeps transitions in a server, outside the graph"
    if config.training.loop == "auto":
        return "graph" if reason is None else "host"
    if config.training.loop == "graph" and reason is not None:
        raise ConfigError(f"training.loop=graph: {reason}; take training.loop=host, or auto")
    return config.training.loop


def _agent(config: Config) -> AgentConfig:
    agent = config.agent
    if not agent.is_categorical:
        return agent
    known = registry.return_range(config.env, agent.gamma)
    if known is None:
        if None in (agent.v_min, agent.v_max):
            raise ConfigError(
                f"agent.kind={agent.kind} learns a distribution of returns, and nothing is known "
                f"of the discounted returns of {config.env.id!r} as it is configured, with "
                f"agent.gamma={agent.gamma:g}: say between what they lie, as agent.v_min and "
                "agent.v_max"
            )
        return agent
    low, high = (float(f"{end:.6g}") for end in known)
    v_min = low if agent.v_min is None else agent.v_min
    v_max = high if agent.v_max is None else agent.v_max
    if not max(v_min, low) < min(v_max, high):
        raise ConfigError(
            f"agent.v_min={v_min:g} and agent.v_max={v_max:g} hold none of the discounted returns "
            f"of {config.env.id!r}, which lie between {low:g} and {high:g} with "
            f"agent.gamma={agent.gamma:g}: null takes these"
        )
    return agent.model_copy(update={"v_min": v_min, "v_max": v_max})


def _network(network: NetworkConfig, observation: ObservationSpec) -> NetworkConfig:
    convolutions, dense = network.conv_layer_params, network.fc_layer_params
    if convolutions and observation.kind is not Kind.IMAGE:
        raise ConfigError(
            f"network.conv_layer_params={[list(x) for x in convolutions]}: observations of shape "
            f"{observation.shape} are no images; leave it null, or make them images by env.wrappers"
        )
    default = _default_network(observation)
    if convolutions is None:
        convolutions = default[0]
    if convolutions:
        convolution_shapes(convolutions, observation)  # raises if they do not fit
    if dense is None:
        dense = default[1] if convolutions else _DENSE
    layers = {"conv_layer_params": convolutions, "fc_layer_params": dense}
    return network.model_copy(update=layers)


def _default_network(observation: ObservationSpec) -> tuple[Convolutions, tuple[int, ...]]:
    if observation.kind is Kind.IMAGE:
        for convolutions, dense in IMAGE_NETWORKS:
            with contextlib.suppress(ConfigError):
                convolution_shapes(convolutions, observation)
                return convolutions, dense
    return (), _DENSE
