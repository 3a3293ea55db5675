"""Construction of the evaluator that a configuration selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dqnkit.agents.policies import Policy
from dqnkit.config.random_streams import EpisodeKeys, training_environment_seeds
from dqnkit.config.sections import Config
from dqnkit.envs import registry
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import UnsupportedEnvironmentError
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator


class SharedEnvironment(NamedTuple):
    """Environments of training in which evaluation plays."""

    environment: VectorEnvironment
    after: Callable[[], None]
    """Called after each batch of episodes."""


def make_evaluator(
    config: Config,
    policy: Policy,
    num_episodes: int,
    keys: EpisodeKeys,
    shared: SharedEnvironment | None = None,
) -> Evaluator:
    """Return an evaluator, which runs in the graph if training does.

    Args:
      config: The resolved configuration.
      policy: The policy that chooses the actions.
      num_episodes: Number of episodes per batch.
      keys: Random keys of the episodes.
      shared: Environments of training to play in; None makes environments for the evaluator.

    Raises:
      UnsupportedEnvironmentError: If the environments cannot be made.
    """
    limit = config.evaluation.max_episode_steps
    if config.training.loop == "graph":
        dynamics = registry.make_dynamics(config.evaluation_env)
        return GraphEvaluator(policy, dynamics, num_episodes, keys, limit)
    avoided = frozenset(training_environment_seeds(config.training.seed, config.env.num_envs))
    if shared is not None:
        return HostEvaluator(
            policy, shared.environment, num_episodes, keys, limit, avoided, shared.after
        )
    size = 1 if config.evaluation.shares_environment else num_episodes
    try:
        environment = VectorEnvironment(config.evaluation_env, policy.spec, size)
    except UnsupportedEnvironmentError as error:
        error.add_note(
            f"this was one of {size} for evaluation, beside env.num_envs={config.env.num_envs} for "
            "training; for a simulator of which only one instance can live, set "
            "evaluation.shares_environment=true and env.num_envs=1"
        )
        raise
    try:
        return HostEvaluator(policy, environment, num_episodes, keys, limit, avoided)
    except BaseException:
        environment.close()
        raise
