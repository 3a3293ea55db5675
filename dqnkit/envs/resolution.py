"""Configuration values that depend on the environment."""

from __future__ import annotations

from typing import Any

from dqnkit._system.extras import check_installed
from dqnkit.config.sections import (
    AgentConfig,
    Config,
    EnvConfig,
    EvaluationConfig,
    NetworkConfig,
)
from dqnkit.envs import factory, packages, registry, wrappers
from dqnkit.envs.description import channel_axis, describe_env, uncertain_images
from dqnkit.envs.specs import (
    Convolutions,
    EnvSpec,
    ObservationSpec,
    all_fit,
    convolution_shapes,
)
from dqnkit.errors import ConfigError

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
      environment's spec. `cautions` describes choices that a user should know of.

    Raises:
      ConfigError: If environment and configuration do not fit together, or if the configuration
        needs Reverb and it is not installed.
      UnsupportedEnvironmentError: If the environment cannot be created or a DQN cannot use it.
    """
    if config.replay.kind == "reverb":
        check_installed("replay.kind=reverb")
    spec = describe_env(config.env)
    _check_evaluation(config, spec)
    loop = _loop(config)
    update = {
        "env": _env(config, spec, loop),
        "training": config.training.model_copy(update={"loop": loop}),
        "network": _network(config.network, spec.observation),
        "agent": _agent(config),
        "evaluation": _evaluation(config),
    }
    return config.model_copy(update=update), spec


def as_recorded(config: Config) -> Config:
    """Return a recorded configuration with the evaluation that its run has had so far.

    Versions that did not record `env.channels` evaluated with all wrappers and arguments of
    training; the scores of a run must not change their meaning when it is resumed.
    """
    env, evaluation = config.env, config.evaluation
    if evaluation.shares_environment:
        return config
    update: dict[str, Any] = {}
    if evaluation.wrappers is None and any(map(wrappers.changes_rewards, env.wrappers)):
        update["wrappers"] = env.wrappers
    clips = packages.true_score_kwargs(env, evaluation.kwargs)
    if clips:
        clipped = {name: env.kwargs.get(name, True) for name in clips}
        update["kwargs"] = evaluation.kwargs | clipped
    return config.model_copy(update={"evaluation": evaluation.model_copy(update=update)})


def cautions(given: Config, resolved: Config, spec: EnvSpec) -> list[str]:
    """Return warnings about choices of `resolve` that may not be meant, or surprise.

    Args:
      given: The configuration before it was resolved.
      resolved: The resolved configuration.
      spec: Spec of its environment.
    """
    warnings = []
    for image in uncertain_images(spec.observation) if given.env.channels == "auto" else ():
        height, width, channels = image.image_shape
        name = f" {image.name!r}" if image.path else ""
        warnings.append(
            f"images{name} of shape {image.shape} are read as {height} by {width} with {channels} "
            f"channels; if that is wrong, set env.channels to "
            f"{'last' if image.channels_first else 'first'}, and otherwise to "
            f"{'first' if image.channels_first else 'last'}"
        )
    if given.evaluation.wrappers != resolved.evaluation.wrappers:
        left_out = [each.path for each in given.env.wrappers if wrappers.changes_rewards(each)]
        warnings.append(
            f"evaluation plays without {', '.join(left_out)}, so that its returns are those of the "
            "environment itself; evaluation.wrappers can name other wrappers"
        )
    if given.evaluation.kwargs != resolved.evaluation.kwargs:
        warnings.append(
            f"evaluation plays with evaluation.kwargs={resolved.evaluation.kwargs}, so that its "
            "returns are those of the game itself"
        )
    if given.env.num_envs != resolved.env.num_envs:
        warnings.append(
            f"env.num_envs={given.env.num_envs}: a second instance of {spec.id!r} cannot be made "
            "while the first one lives; training continues with env.num_envs=1"
        )
    return warnings


def _env(config: Config, spec: EnvSpec, loop: str) -> EnvConfig:
    env = config.env
    update: dict[str, Any] = {"channels": channel_axis(spec.observation) or env.channels}
    may_be_single = config.evaluation.shares_environment and loop == "host"
    if may_be_single and env.num_envs > 1 and not factory.can_live_together(env, spec):
        update["num_envs"] = 1
    return env.model_copy(update=update)


def _evaluation(config: Config) -> EvaluationConfig:
    evaluation, env = config.evaluation, config.env
    update: dict[str, Any] = {}
    kwargs = packages.true_score_kwargs(env, evaluation.kwargs)
    if kwargs and not evaluation.shares_environment:
        update["kwargs"] = evaluation.kwargs | kwargs
    if evaluation.wrappers is None and not evaluation.shares_environment:
        kept = tuple(each for each in env.wrappers if not wrappers.changes_rewards(each))
        if kept != env.wrappers:
            update["wrappers"] = kept
    return evaluation.model_copy(update=update)


def _check_evaluation(config: Config, spec: EnvSpec) -> None:
    """Check that the environment of evaluation has the observations and actions of training."""
    if config.evaluation.wrappers is None and not config.evaluation.kwargs:
        return
    evaluated = describe_env(config.evaluation_env)
    if evaluated != spec:
        key = "kwargs" if config.evaluation.wrappers is None else "wrappers"
        raise ConfigError(
            f"evaluation.{key}: the environment of evaluation has the observations "
            f"{evaluated.observation.describe()} and {evaluated.num_actions} actions, but training "
            f"has {spec.observation.describe()} and {spec.num_actions}: only rewards and ends of "
            "episodes may differ"
        )


def _loop(config: Config) -> str:
    reason = registry.why_not_in_graph(config.env)
    if reason is None and config.evaluation.wrappers:
        reason = "evaluation.wrappers is not empty, and wrappers run in Python"
    if reason is None and config.evaluation.kwargs:
        reason = registry.why_not_in_graph(config.evaluation_env)
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
    if convolutions and not observation.images:
        raise ConfigError(
            f"network.conv_layer_params={[list(x) for x in convolutions]}: observations of shape "
            f"{observation.describe()} have no images; set it to null, or convert the observations "
            "to images by a wrapper in env.wrappers"
        )
    default = _default_network(observation)
    if convolutions is None:
        convolutions = default[0]
    for image in observation.images:
        convolution_shapes(convolutions, image)  # raises if they do not fit
    if dense is None:
        dense = default[1] if convolutions else _DENSE
    layers = {"conv_layer_params": convolutions, "fc_layer_params": dense}
    return network.model_copy(update=layers)


def _default_network(observation: ObservationSpec) -> tuple[Convolutions, tuple[int, ...]]:
    if observation.images:
        for convolutions, dense in IMAGE_NETWORKS:
            if all_fit(convolutions, observation.images):
                return convolutions, dense
    return (), _DENSE
