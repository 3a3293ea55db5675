"""What every evaluator promises: one suite for the graph and for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit.agents.policies import GreedyPolicy, Policy, RandomPolicy, SavedPolicy
from dqnkit.config.sections import Config, EnvConfig, NetworkConfig
from dqnkit.config.seeds import training_evaluation_keys
from dqnkit.envs import factory, registry
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator
from tests.environments import vector_spec

# Leans against the pole's fall: what a solved CartPole looks like in a linear network.
LEAN = np.float32([[-0.1, -0.3, -1.0, -0.4], [0.1, 0.3, 1.0, 0.4]])
CARTPOLE = EnvConfig(id="CartPole-v1")
LINEAR = Config(network=NetworkConfig(fc_layer_params=()))

Make = Callable[..., Evaluator]


def _policy(kernel: np.ndarray) -> GreedyPolicy:
    policy = GreedyPolicy(vector_spec(4, num_actions=2), LINEAR)
    policy.set_weights(np.append(kernel, [0.0, 0.0]))
    return policy


@pytest.fixture(params=["graph", "sync", "vector_entry_point"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """An evaluator of a policy in CartPole-v1; its own vector class resets in the next step."""
    made: list[Evaluator] = []

    def build(
        policy: Policy, num_episodes: int, seed: int = 0, max_steps: int = 27_000
    ) -> Evaluator:
        if request.param == "graph":
            dynamics = registry.make_dynamics(CARTPOLE)
            made.append(
                GraphEvaluator(
                    policy, dynamics, num_episodes, training_evaluation_keys(seed), max_steps
                )
            )
        else:
            config = CARTPOLE.model_copy(update={"vectorization": request.param})
            environment = VectorEnvironment(config, policy.spec, num_episodes)
            made.append(
                HostEvaluator(policy, environment, training_evaluation_keys(seed), max_steps)
            )
        made[-1].prepare()
        return made[-1]

    yield build
    for evaluator in made:
        evaluator.close()


def test_a_good_policy_scores_500_and_a_bad_one_about_nine(make: Make) -> None:
    policy = _policy(LEAN)
    evaluator = make(policy, 20)
    returns, lengths = evaluator.play(0)
    np.testing.assert_array_equal(returns, 500.0)
    np.testing.assert_array_equal(lengths, 500)
    policy.set_weights(np.append(-LEAN, [0.0, 0.0]))  # the same compiled function
    returns, lengths = evaluator.play(0)
    assert 8 <= returns.mean() <= 10
    np.testing.assert_array_equal(returns, lengths)


def test_a_saved_policy_plays_the_episodes_that_it_played_in_training(make: Make) -> None:
    policy = _policy(-LEAN)
    policy.save(Path("saved"))
    saved = SavedPolicy(Path("saved"), policy.spec)
    for ours, theirs in zip(make(policy, 30).play(2), make(saved, 30).play(2), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_random_actions_score_about_22(make: Make) -> None:
    evaluator = make(RandomPolicy(vector_spec(4, num_actions=2)), 400)
    returns, lengths = evaluator.play(0)
    assert 20.0 < returns.mean() < 24.5  # 22.2 in the long run, with a standard error of 0.6
    np.testing.assert_array_equal(returns, lengths)
    np.testing.assert_array_equal(returns, evaluator.play(0)[0])
    assert not np.array_equal(returns, evaluator.play(1)[0])


def test_episodes_are_those_of_seed_and_counter(make: Make) -> None:
    policy = _policy(-LEAN)
    first, second = (make(policy, 50, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.play(3)[0], first.play(3)[0])
    assert not np.array_equal(first.play(3)[0], first.play(4)[0])
    assert not np.array_equal(first.play(-1)[0], first.play(-2)[0])
    assert not np.array_equal(first.play(3)[0], second.play(3)[0])


def test_an_episode_is_broken_off_at_the_limit(make: Make) -> None:
    returns, lengths = make(_policy(LEAN), 5, max_steps=30).play(0)
    np.testing.assert_array_equal(returns, 30.0)
    np.testing.assert_array_equal(lengths, 30)


def _corridor(
    num_episodes: int, wrappers: Any = None, env: EnvConfig | None = None, **settings: Any
) -> np.ndarray:
    """Returns of an untrained policy in a Corridor."""
    update = {"id": "tests.environments:Corridor-v0", **settings}
    config = (env or EnvConfig()).model_copy(update=update)
    spec = factory.describe_env(config)
    policy = GreedyPolicy(spec, LINEAR)
    environment = VectorEnvironment(config, spec, num_episodes, wrappers)
    return HostEvaluator(policy, environment, training_evaluation_keys(0), max_steps=100).play(0)[0]


def test_the_evaluations_wrappers_stand_in_place_of_the_environments() -> None:
    tripled = EnvConfig(wrappers=[{"tests.environments.Doubled": {"factor": 3.0}}]).wrappers
    doubled = EnvConfig(wrappers=["tests.environments.Doubled"])
    np.testing.assert_array_equal(_corridor(2, env=doubled), 100.0)
    np.testing.assert_array_equal(_corridor(2, tripled, env=doubled), 150.0)
    np.testing.assert_array_equal(_corridor(2, (), env=doubled), 50.0)


def test_stacks_and_shifted_actions_are_played_as_trained() -> None:
    returns = _corridor(3, kwargs={"first_action": 5, "length": 4}, frame_stack=3)
    np.testing.assert_array_equal(returns, 40.0)  # the Corridor refuses actions below 5
