"""What a run is made of: loop, policy and evaluation, for the graph or for Python."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from dqnkit.agents.policies import GreedyPolicy
from dqnkit.config.sections import Config
from dqnkit.config.seeds import training_evaluation_keys
from dqnkit.envs import registry
from dqnkit.envs.specs import EnvSpec
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.factory import make_evaluator
from dqnkit.loops.base import Loop
from dqnkit.loops.graph import GraphLoop
from dqnkit.loops.host import HostLoop


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


def build(
    config: Config, spec: EnvSpec, interrupted: Callable[[], object] = lambda: False
) -> Parts:
    """The parts that a resolved configuration asks for.

    Args:
      config: It.
      spec: Of its environment.
      interrupted: Asked by a loop that waits for others, whether to wait no longer.

    Raises:
      ConfigError: They do not fit into this machine, or cannot be made.
      ReplayError: The server of the replay does not answer.
    """
    with ExitStack() as unfinished:
        loop = _loop(config, spec, interrupted)
        unfinished.callback(loop.close)
        policy = GreedyPolicy(spec, config)
        keys = training_evaluation_keys(config.training.seed)
        evaluator = make_evaluator(config, policy, config.evaluation.num_eval_episodes, keys)
        unfinished.pop_all()
    return Parts(loop, policy, evaluator)


def _loop(config: Config, spec: EnvSpec, interrupted: Callable[[], object]) -> Loop:
    if config.training.loop == "graph":
        return GraphLoop(config, spec, registry.make_dynamics(config.env))
    if config.training.num_actors is None:
        return HostLoop(config, spec)
    from dqnkit.reverb.learner import LearnerLoop  # where it is installed

    return LearnerLoop(config, spec, interrupted)
