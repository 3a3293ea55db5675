"""The evaluator that a configuration asks for."""

from __future__ import annotations

from dqnkit.agents.policies import Policy
from dqnkit.config.sections import Config
from dqnkit.config.seeds import EpisodeKeys, training_environment_seeds
from dqnkit.envs import registry
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator


def make_evaluator(
    config: Config, policy: Policy, num_episodes: int, keys: EpisodeKeys
) -> Evaluator:
    """An evaluator in environments of its own: in the graph where the training is.

    Args:
      config: Resolved; says which environments, and which seeds are training's.
      policy: Acts.
      num_episodes: In a batch.
      keys: Of the episodes.

    Raises:
      UnsupportedEnvironmentError: The environments cannot be made.
    """
    limit = config.evaluation.max_episode_steps
    if config.training.loop == "graph":
        dynamics = registry.make_dynamics(config.env)
        return GraphEvaluator(policy, dynamics, num_episodes, keys, limit)
    # A process an episode would be as many as the machine has never seen.
    in_turn = config.env.vectorization == "async"
    env = config.env.model_copy(update={"vectorization": "sync"} if in_turn else {})
    environment = VectorEnvironment(env, policy.spec, num_episodes, config.evaluation.wrappers)
    try:
        avoided = frozenset(training_environment_seeds(config.training.seed, config.env.num_envs))
        return HostEvaluator(policy, environment, keys, limit, avoided)
    except BaseException:
        environment.close()
        raise
