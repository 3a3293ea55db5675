from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from dqnkit.agents.policies import GreedyPolicy
from dqnkit.config.random_streams import training_evaluation_keys
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator
from dqnkit.loops.graph import GraphLoop
from dqnkit.loops.host import HostLoop
from dqnkit.replay.host_prioritized import HostPrioritizedReplay
from dqnkit.replay.host_uniform import HostUniformReplay
from dqnkit.runs.components import Components, make_components, make_host_loop, make_loop

Small = Callable[..., Config]


class Closing:
    """Stands for a loop or an evaluator, and counts how often it is closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closed = 0
        self._error = error

    def close(self) -> None:
        self.closed += 1
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("loop", "types"), [("graph", (GraphLoop, GraphEvaluator)), ("host", (HostLoop, HostEvaluator))]
)
def test_loop_and_evaluator_are_of_the_same_kind(
    small: Small, loop: str, types: tuple[type, type]
) -> None:
    config, spec = resolve(small(f"training.loop={loop}"))
    components = make_components(config, spec)
    assert isinstance(components.loop, types[0])
    assert isinstance(components.evaluator, types[1])
    assert isinstance(components.policy, GreedyPolicy)
    components.policy.set_weights(components.loop.policy_weights())
    returns, lengths = components.evaluator.play(0)
    assert len(returns) == len(lengths) == config.evaluation.num_eval_episodes
    components.close()


@pytest.mark.parametrize(
    ("kind", "replay"), [("uniform", HostUniformReplay), ("prioritized", HostPrioritizedReplay)]
)
def test_the_host_loop_gets_the_replay_of_the_configuration(
    small: Small, kind: str, replay: type
) -> None:
    loop = make_host_loop(*resolve(small(f"replay.kind={kind}", "training.loop=host")))
    assert type(loop._replay) is replay
    loop.close()


def test_actors_are_trained_by_the_learner_loop(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is replaced, because Reverb is not installed everywhere."""
    module, made = ModuleType("dqnkit.reverb.learner_loop"), []
    module.LearnerLoop = lambda *arguments: made.append(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dqnkit.reverb.learner_loop", module)
    config, spec = resolve(small("training.loop=host"))
    training = config.training.model_copy(update={"num_actors": 2})
    config = config.model_copy(update={"training": training})
    make_loop(config, spec, interrupted := lambda: True)
    assert made == [(config, spec, interrupted)]


def test_the_loop_is_closed_if_the_evaluator_cannot_be_made(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Closing()

    def fail(*_: object) -> None:
        raise RuntimeError("no environments")

    monkeypatch.setattr("dqnkit.runs.components.make_loop", lambda *_: loop)
    monkeypatch.setattr("dqnkit.evaluation.factory.make_evaluator", fail)
    with pytest.raises(RuntimeError, match="no environments"):
        make_components(*resolve(small()))
    assert loop.closed == 1


def test_both_are_closed_even_if_closing_one_fails() -> None:
    loop, evaluator = Closing(), Closing(RuntimeError("stuck"))
    with pytest.raises(RuntimeError, match="stuck"):
        Components(loop, None, evaluator).close()  # type: ignore[arg-type]
    assert (loop.closed, evaluator.closed) == (1, 1)


def test_evaluation_plays_the_episodes_of_the_seed(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def make_evaluator(*arguments: object) -> Closing:
        given.append(arguments)
        return Closing()

    monkeypatch.setattr("dqnkit.evaluation.factory.make_evaluator", make_evaluator)
    config, spec = resolve(small("training.seed=7", "evaluation.num_eval_episodes=3"))
    components = make_components(config, spec)
    assert given == [(config, components.policy, 3, training_evaluation_keys(7), None)]
