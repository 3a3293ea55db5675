from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dqnkit.agents.policies import GreedyPolicy
from dqnkit.config.random_streams import training_environment_seeds, training_evaluation_keys
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import UnsupportedEnvironmentError
from dqnkit.evaluation import factory
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.factory import make_evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator

CORRIDOR = "env.id=tests.environments:Corridor-v0"
KEYS = training_evaluation_keys(0)

Small = Callable[..., Config]


def _make(config: Config, num_episodes: int = 3) -> Evaluator:
    config, spec = resolve(config)
    return make_evaluator(config, GreedyPolicy(spec, config), num_episodes, KEYS)


@pytest.mark.parametrize(("loop", "expected"), [("graph", GraphEvaluator), ("host", HostEvaluator)])
def test_evaluator_runs_where_training_runs(small: Small, loop: str, expected: type) -> None:
    evaluator = _make(small("env.id=CartPole-v1", f"training.loop={loop}"))
    assert isinstance(evaluator, expected)
    evaluator.prepare()
    returns, lengths = evaluator.play(0)
    np.testing.assert_array_equal(returns, lengths)  # CartPole gives 1 per step
    evaluator.close()


@pytest.mark.parametrize("loop", ["graph", "host"])
def test_limit_on_the_length_of_episodes_is_that_of_the_configuration(
    small: Small, loop: str
) -> None:
    assignments = ["env.id=CartPole-v1", "evaluation.max_episode_steps=4"]
    evaluator = _make(small(f"training.loop={loop}", *assignments))
    np.testing.assert_array_equal(evaluator.play(0)[1], 4)
    evaluator.close()


def test_wrappers_of_the_evaluation_replace_those_of_the_environment(small: Small) -> None:
    doubled = ["env.wrappers=[tests.environments.Doubled]"]
    evaluator = _make(small(CORRIDOR, *doubled))
    np.testing.assert_array_equal(evaluator.play(0)[0], 100.0)
    evaluator.close()
    evaluator = _make(small(CORRIDOR, *doubled, "evaluation.wrappers=[]"))
    np.testing.assert_array_equal(evaluator.play(0)[0], 50.0)
    evaluator.close()


@pytest.mark.parametrize(
    ("vectorization", "expected"),
    [("async", "sync"), ("sync", "sync"), ("vector_entry_point", "vector_entry_point")],
)
def test_episodes_are_not_distributed_over_processes(
    small: Small, monkeypatch: pytest.MonkeyPatch, vectorization: str, expected: str
) -> None:
    vectorizations = []

    class Recorded(VectorEnvironment):
        def __init__(self, config: Any, *arguments: Any) -> None:
            vectorizations.append(config.vectorization)
            super().__init__(config, *arguments)

    monkeypatch.setattr(factory, "VectorEnvironment", Recorded)
    _make(small(CORRIDOR, f"env.vectorization={vectorization}")).close()
    assert vectorizations == [expected]


def test_environments_are_never_reset_with_the_seeds_of_training(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(*arguments: Any) -> str:
        avoided.append(arguments[-1])
        arguments[1].close()
        return "evaluator"

    avoided: list[frozenset[int]] = []
    monkeypatch.setattr(factory, "HostEvaluator", record)
    assert _make(small(CORRIDOR, "training.seed=5", "env.num_envs=2")) == "evaluator"
    assert avoided == [frozenset(training_environment_seeds(5, 2))]


def test_environments_are_closed_if_the_evaluator_cannot_be_made(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    closed = []

    class Recorded(VectorEnvironment):
        def close(self) -> None:
            closed.append(self)
            super().close()

    monkeypatch.setattr(factory, "HostEvaluator", fail)
    monkeypatch.setattr(factory, "VectorEnvironment", Recorded)
    with pytest.raises(KeyboardInterrupt):
        _make(small(CORRIDOR))
    assert len(closed) == 1


def test_environments_that_cannot_be_made_are_an_unsupported_environment(small: Small) -> None:
    config, spec = resolve(small(CORRIDOR))
    policy = GreedyPolicy(spec, config)
    broken = config.model_copy(
        update={"env": config.env.model_copy(update={"kwargs": {"no_such_argument": 1}})}
    )
    with pytest.raises(UnsupportedEnvironmentError, match="no_such_argument"):
        make_evaluator(broken, policy, 2, KEYS)
