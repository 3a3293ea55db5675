"""Construction of the evaluator that a configuration selects."""

from __future__ import annotations

from dqnkit.agents.policies import Policy
from dqnkit.config.random_streams import EpisodeKeys, training_environment_seeds
from dqnkit.config.sections import Config
from dqnkit.envs import registry
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator


def make_evaluator(
    config: Config, policy: Policy, num_episodes: int, keys: EpisodeKeys
) -> Evaluator:
    """Return an evaluator with its own environments, which runs in the graph if training does.

    Args:
      config: The resolved configuration.
      policy: The policy that chooses the actions.
      num_episodes: Number of episodes per batch.
      keys: Random keys of the episodes.

    Raises:
      UnsupportedEnvironmentError: If the environments cannot be made.
    """
    limit = config.evaluation.max_episode_steps
    if config.training.loop == "graph":
        dynamics = registry.make_dynamics(config.env)
        return GraphEvaluator(policy, dynamics, num_episodes, keys, limit)
    # An asynchronous vector would start one process per episode, far more than there are cores.
    is_async = config.env.vectorization == "async"
    env = config.env.model_copy(update={"vectorization": "sync"} if is_async else {})
    environment = VectorEnvironment(env, policy.spec, num_episodes, config.evaluation.wrappers)
    try:
        avoided = frozenset(training_environment_seeds(config.training.seed, config.env.num_envs))
        return HostEvaluator(policy, environment, keys, limit, avoided)
    except BaseException:
        environment.close()
        raise
