"""Configuration values that depend on the environment."""

from __future__ import annotations

import contextlib

from dqnkit._system.extras import check_installed
from dqnkit.config.sections import AgentConfig, Config, NetworkConfig
from dqnkit.envs import factory, registry
from dqnkit.envs.specs import EnvSpec, ObservationKind, ObservationSpec, convolution_shapes
from dqnkit.errors import ConfigError

Convolutions = tuple[tuple[int, int, int], ...]

IMAGE_NETWORKS: tuple[tuple[Convolutions, tuple[int, ...]], ...] = (
    # Mnih et al. (2015), for images of 84 by 84
    (((32, 8, 4), (64, 4, 2), (64, 3, 1)), (512,)),
    # MinAtar (Young and Tian, 2019), for images of 10 by 10
    (((16, 3, 1),), (128,)),
)
"""Convolutions [filters, kernel, stride] and dense layers. The default for an image is the first
entry whose convolutions fit into it."""
_DENSE = (100, 50)
"""Default dense layers without convolutions, as in TF-Agents' DQN tutorial."""


def resolve(config: Config) -> tuple[Config, EnvSpec]:
    """Choose the loop, the network and the range of returns that suit the environment.

    Returns:
      The configuration with these values set (resolving it again changes nothing), and the
      environment's spec.

    Raises:
      ConfigError: If environment and configuration do not fit together, or if the configuration
        needs Reverb and it is not installed.
      UnsupportedEnvironmentError: If the environment cannot be created or a DQN cannot use it.
    """
    if config.replay.kind == "reverb":
        check_installed("replay.kind=reverb")
    spec = factory.describe_env(config.env)
    _check_evaluation(config, spec)
    update = {
        "training": config.training.model_copy(update={"loop": _loop(config)}),
        "network": _network(config.network, spec.observation),
        "agent": _agent(config),
    }
    return config.model_copy(update=update), spec


def _check_evaluation(config: Config, spec: EnvSpec) -> None:
    """Check that wrappers for evaluation keep the observations and actions of training."""
    wrappers = config.evaluation.wrappers
    if wrappers is None:
        return
    evaluated = factory.describe_env(config.env.model_copy(update={"wrappers": wrappers}))
    if evaluated != spec:
        raise ConfigError(
            "evaluation.wrappers: the wrapped environment has the observations "
            f"{evaluated.observation} and {evaluated.num_actions} actions, but training has "
            f"{spec.observation} and {spec.num_actions}: only rewards and ends of episodes may "
            "differ"
        )


def _loop(config: Config) -> str:
    reason = registry.why_not_in_graph(config.env)
    if reason is None and config.evaluation.wrappers:
        reason = "evaluation.wrappers is not empty, and wrappers run in Python"
    if config.replay.kind == "reverb":
        reason = "replay.kind=reverb keeps transitions in a server, outside the graph"
    if config.training.loop == "auto":
        return "graph" if reason is None else "host"
    if config.training.loop == "graph" and reason is not None:
        raise ConfigError(f"training.loop=graph: {reason}; set training.loop to host or auto")
    return config.training.loop


def _agent(config: Config) -> AgentConfig:
    agent = config.agent
    if not agent.is_categorical:
        return agent
    bounds = registry.return_range(config.env, agent.gamma)
    if bounds is None:
        if None in (agent.v_min, agent.v_max):
            raise ConfigError(
                f"agent.kind={agent.kind} learns a distribution of returns within bounds, and the "
                f"bounds of the discounted return of {config.env.id!r} are unknown as it is "
                f"configured, with agent.gamma={agent.gamma:g}: set agent.v_min and agent.v_max"
            )
        return agent
    low, high = (float(f"{bound:.6g}") for bound in bounds)
    v_min = low if agent.v_min is None else agent.v_min
    v_max = high if agent.v_max is None else agent.v_max
    if not max(v_min, low) < min(v_max, high):
        raise ConfigError(
            f"agent.v_min={v_min:g} and agent.v_max={v_max:g} do not overlap with the discounted "
            f"returns of {config.env.id!r}, which lie between {low:g} and {high:g} with "
            f"agent.gamma={agent.gamma:g}: set them to null to use these bounds"
        )
    return agent.model_copy(update={"v_min": v_min, "v_max": v_max})


def _network(network: NetworkConfig, observation: ObservationSpec) -> NetworkConfig:
    convolutions, dense = network.conv_layer_params, network.fc_layer_params
    if convolutions and observation.kind is not ObservationKind.IMAGE:
        raise ConfigError(
            f"network.conv_layer_params={[list(x) for x in convolutions]}: observations of shape "
            f"{observation.shape} are not images; set it to null, or convert the observations to "
            "images by a wrapper in env.wrappers"
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
    if observation.kind is ObservationKind.IMAGE:
        for convolutions, dense in IMAGE_NETWORKS:
            with contextlib.suppress(ConfigError):
                convolution_shapes(convolutions, observation)
                return convolutions, dense
    return (), _DENSE
