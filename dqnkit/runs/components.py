"""The components of a run: loop, policy and evaluator, for the graph or for the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dqnkit.config.random_streams import training_evaluation_keys
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec

if TYPE_CHECKING:  # these modules load TensorFlow, and so do the functions below
    from dqnkit.agents.policies import GreedyPolicy
    from dqnkit.evaluation.base import Evaluator
    from dqnkit.evaluation.factory import SharedEnvironment
    from dqnkit.loops.base import Loop
    from dqnkit.loops.host import HostLoop
    from dqnkit.replay.base import HostReplay


@dataclass(frozen=True)
class Components:
    """Loop, the policy that evaluations play, and the evaluator."""

    loop: Loop
    policy: GreedyPolicy
    evaluator: Evaluator

    def warnings(self) -> list[str]:
        """Return warnings for the user that came up since the last call."""
        return self.loop.warnings() + self.evaluator.warnings()

    def close(self) -> None:
        """Close all environments."""
        with ExitStack() as both:
            both.callback(self.loop.close)
            both.callback(self.evaluator.close)


def make_components(
    config: Config, spec: EnvSpec, interrupted: Callable[[], object] = lambda: False
) -> Components:
    """Make the components of a run.

    Args:
      config: The resolved configuration.
      spec: Specification of its environment.
      interrupted: Function that a loop calls while it waits for other processes; a true result
        ends the wait.

    Raises:
      ConfigError: If they do not fit into memory, or cannot be made.
      ReplayError: If the replay server does not answer.
    """
    from dqnkit.agents.policies import GreedyPolicy
    from dqnkit.evaluation.factory import make_evaluator

    with ExitStack() as unfinished:
        loop = make_loop(config, spec, interrupted)
        unfinished.callback(loop.close)
        policy = GreedyPolicy(spec, config)
        keys = training_evaluation_keys(config.training.seed)
        evaluator = make_evaluator(
            config, policy, config.evaluation.num_eval_episodes, keys, _shared(config, loop)
        )
        unfinished.pop_all()
    return Components(loop, policy, evaluator)


def _shared(config: Config, loop: Loop) -> SharedEnvironment | None:
    """Return the loop's environments if evaluation shares them."""
    if not config.evaluation.shares_environment or config.training.loop == "graph":
        return None
    from dqnkit.evaluation.factory import SharedEnvironment
    from dqnkit.loops.host import HostLoop

    assert isinstance(loop, HostLoop)  # `Config` excludes actors
    return SharedEnvironment(loop.environment, loop.begin_episodes)


def make_loop(
    config: Config, spec: EnvSpec, interrupted: Callable[[], object] = lambda: False
) -> Loop:
    """Make the training loop of a resolved configuration (see `make_components`)."""
    if config.training.loop == "graph":
        from dqnkit.envs.registry import make_dynamics
        from dqnkit.loops.graph import GraphLoop

        return GraphLoop(config, spec, make_dynamics(config.env))
    if config.training.num_actors is None:
        return make_host_loop(config, spec)
    from dqnkit.reverb.learner_loop import LearnerLoop

    return LearnerLoop(config, spec, interrupted)


def make_host_loop(config: Config, spec: EnvSpec) -> HostLoop:
    """Make the host loop with the replay of a resolved configuration (see `make_components`)."""
    from dqnkit.loops.host import HostLoop

    return HostLoop(config, spec, _make_host_replay(config, spec))


def _make_host_replay(config: Config, spec: EnvSpec) -> HostReplay:
    if config.replay.kind != "reverb":
        from dqnkit.replay.factory import make_host_replay

        return make_host_replay(config, spec)
    from dqnkit.reverb.replay import make_reverb_replay

    return make_reverb_replay(config, spec)
