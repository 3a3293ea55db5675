"""Contract of `Evaluator`: one suite for the graph and the host implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dqnkit.agents.policies import GreedyPolicy, Policy, RandomPolicy, SavedPolicy
from dqnkit.config.random_streams import training_evaluation_keys
from dqnkit.config.sections import Config, EnvConfig, NetworkConfig
from dqnkit.envs import registry
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation.base import Evaluator
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.evaluation.host import HostEvaluator
from tests.specs import vector_spec

# A linear Q-function that solves CartPole: it pushes towards the side to which the pole falls.
SOLVED = np.float32([[-0.1, -0.3, -1.0, -0.4], [0.1, 0.3, 1.0, 0.4]])
CARTPOLE = EnvConfig(id="CartPole-v1")
LINEAR = Config(network=NetworkConfig(fc_layer_params=()))

MakeEvaluator = Callable[..., Evaluator]


def _policy(kernel: np.ndarray) -> GreedyPolicy:
    policy = GreedyPolicy(vector_spec(4, num_actions=2), LINEAR)
    policy.set_weights(np.append(kernel, [0.0, 0.0]))
    return policy


@pytest.fixture(params=["graph", "sync", "vector_entry_point"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeEvaluator]:
    """Makes evaluators in CartPole-v1, whose own vector class has autoreset mode `NEXT_STEP`."""
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
                HostEvaluator(
                    policy,
                    environment,
                    environment.num_envs,
                    training_evaluation_keys(seed),
                    max_steps,
                )
            )
        made[-1].prepare()
        return made[-1]

    yield build
    for evaluator in made:
        evaluator.close()


def test_good_policy_scores_500_and_bad_policy_about_nine(make: MakeEvaluator) -> None:
    policy = _policy(SOLVED)
    evaluator = make(policy, 20)
    returns, lengths = evaluator.play(0)
    np.testing.assert_array_equal(returns, 500.0)
    np.testing.assert_array_equal(lengths, 500)
    policy.set_weights(np.append(-SOLVED, [0.0, 0.0]))  # without recompilation
    returns, lengths = evaluator.play(0)
    assert 8 <= returns.mean() <= 10
    np.testing.assert_array_equal(returns, lengths)


def test_saved_policy_plays_the_same_episodes_as_before_saving(make: MakeEvaluator) -> None:
    policy = _policy(-SOLVED)
    policy.save(Path("saved"))
    saved = SavedPolicy(Path("saved"), policy.spec)
    for before, after in zip(make(policy, 30).play(2), make(saved, 30).play(2), strict=True):
        np.testing.assert_array_equal(before, after)


def test_random_actions_score_about_22(make: MakeEvaluator) -> None:
    evaluator = make(RandomPolicy(vector_spec(4, num_actions=2)), 400)
    returns, lengths = evaluator.play(0)
    assert 20.0 < returns.mean() < 24.5  # the expected value is 22.2, the standard error 0.6
    np.testing.assert_array_equal(returns, lengths)
    np.testing.assert_array_equal(returns, evaluator.play(0)[0])
    assert not np.array_equal(returns, evaluator.play(1)[0])


def test_seed_and_counter_determine_the_episodes(make: MakeEvaluator) -> None:
    policy = _policy(-SOLVED)
    first, second = (make(policy, 50, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.play(3)[0], first.play(3)[0])
    assert not np.array_equal(first.play(3)[0], first.play(4)[0])
    assert not np.array_equal(first.play(-1)[0], first.play(-2)[0])
    assert not np.array_equal(first.play(3)[0], second.play(3)[0])


def test_episode_is_cut_off_at_the_limit(make: MakeEvaluator) -> None:
    returns, lengths = make(_policy(SOLVED), 5, max_steps=30).play(0)
    np.testing.assert_array_equal(returns, 30.0)
    np.testing.assert_array_equal(lengths, 30)


def test_returns_and_lengths_have_one_element_per_episode(make: MakeEvaluator) -> None:
    returns, lengths = make(_policy(-SOLVED), 7).play(0)
    assert (returns.shape, returns.dtype) == ((7,), np.float32)
    assert (lengths.shape, lengths.dtype) == ((7,), np.int32)


def test_incomplete_implementation_cannot_be_instantiated() -> None:
    class Incomplete(Evaluator):
        def prepare(self) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()  # type: ignore[abstract]
