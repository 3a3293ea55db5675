"""What a run is made of: loop, policy and evaluation, for the graph or for Python."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from dqnkit.config import Config
from dqnkit.envs import registry
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation import Evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator
from dqnkit.policies import GreedyPolicy
from dqnkit.specs import EnvSpec
from dqnkit.training.graph_loop import GraphLoop
from dqnkit.training.host_loop import HostLoop
from dqnkit.training.loop import Loop


@dataclass(frozen=True)
class Parts:
    """Loop, the policy that evaluation plays, and evaluation."""

    loop: Loop
    policy: GreedyPolicy
    evaluator: Evaluator

    def close(self) -> None:
        """Ends all environments."""
        with ExitStack() as both:
            both.callback(self.loop.close)
            both.callback(self.evaluator.close)


def build(config: Config, spec: EnvSpec) -> Parts:
    """The parts that a resolved configuration asks for.

    Raises:
      ConfigError: They do not fit into this machine.
    """
    evaluation, seed = config.evaluation, config.training.seed
    if config.training.loop == "graph":
        dynamics = registry.graph_dynamics(config.env)
        graph_loop = GraphLoop(config, spec, dynamics)
        policy = GreedyPolicy(spec, config.network)
        evaluator = GraphEvaluator(
            policy, dynamics, evaluation.num_eval_episodes, seed, evaluation.max_episode_steps
        )
        return Parts(graph_loop, policy, evaluator)
    with ExitStack() as unfinished:
        loop = HostLoop(config, spec)
        unfinished.callback(loop.close)
        policy = GreedyPolicy(spec, config.network)
        # A process an episode would be as many as the machine has never seen.
        in_turn = config.env.vectorization == "async"
        env = config.env.model_copy(update={"vectorization": "sync"} if in_turn else {})
        environment = VectorEnvironment(
            env, spec, evaluation.num_eval_episodes, evaluation.wrappers
        )
        unfinished.callback(environment.close)
        host = HostEvaluator(policy, environment, seed, evaluation.max_episode_steps)
        unfinished.pop_all()
    return Parts(loop, policy, host)
