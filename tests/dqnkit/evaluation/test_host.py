"""Behaviour of `HostEvaluator` that the contract in test_base.py does not cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dqnkit.agents.policies import GreedyPolicy
from dqnkit.config.random_streams import stream_seeds, training_evaluation_keys
from dqnkit.config.sections import Config, EnvConfig, NetworkConfig
from dqnkit.envs.description import describe_env
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import EnvironmentFailedError
from dqnkit.evaluation.host import HostEvaluator

LINEAR = Config(network=NetworkConfig(fc_layer_params=()))
KEYS = training_evaluation_keys(0)
HUGE = {"tests.environments.Doubled": {"factor": 3e37}}


def _evaluator(
    num_episodes: int, num_envs: int | None = None, env: EnvConfig | None = None, **settings: Any
) -> HostEvaluator:
    """An evaluator of an untrained policy in a Corridor."""
    update = {"id": "tests.environments:Corridor-v0", **settings}
    config = (env or EnvConfig()).model_copy(update=update)
    spec = describe_env(config)
    environment = VectorEnvironment(config, spec, num_envs or num_episodes)
    return HostEvaluator(GreedyPolicy(spec, LINEAR), environment, num_episodes, KEYS, 100)


def test_return_is_the_undiscounted_sum_of_rewards() -> None:
    returns, lengths = _evaluator(3).play(0)
    np.testing.assert_array_equal(returns, 50.0)
    np.testing.assert_array_equal(lengths, 5)


@pytest.mark.parametrize("num_envs", [1, 2, 3, 4])
def test_episodes_may_be_more_than_environments(num_envs: int) -> None:
    returns, lengths = _evaluator(3, num_envs).play(0)
    np.testing.assert_array_equal(returns, [50.0] * 3)
    np.testing.assert_array_equal(lengths, [5] * 3)


def test_frame_stack_and_shifted_actions_are_supported() -> None:
    settings = {"kwargs": {"first_action": 5, "length": 4}, "frame_stack": 3}
    returns, _ = _evaluator(3, **settings).play(0)
    np.testing.assert_array_equal(returns, 40.0)  # the Corridor rejects actions below 5


class _RecordedSeeds:
    """A stand-in for `VectorEnvironment` with episodes of one step, which records the seeds."""

    num_envs = 4

    def __init__(self) -> None:
        self.spec = describe_env(EnvConfig(id="CartPole-v1"))
        self.observation = np.zeros((4, 4), np.float32)
        self.seeds: list[list[int]] = []
        self.is_closed = False

    def reset(self, seeds: list[int]) -> None:
        self.seeds.append(seeds)

    def step(self, actions: np.ndarray) -> Any:
        class Step:
            reward = np.ones(4, np.float32)
            done = np.ones(4, np.bool_)

        assert actions.shape == (4,)
        return Step

    def close(self) -> None:
        self.is_closed = True


def test_avoided_seeds_are_replaced_by_the_next_ones() -> None:
    environment = _RecordedSeeds()
    policy = GreedyPolicy(environment.spec, LINEAR)
    avoided = stream_seeds(KEYS.resets, 1, 2)
    evaluator = HostEvaluator(policy, environment, 4, KEYS, 100, frozenset(avoided))  # type: ignore[arg-type]
    returns, lengths = evaluator.play(1)
    np.testing.assert_array_equal(returns, 1.0)
    np.testing.assert_array_equal(lengths, 1)
    assert environment.seeds == [stream_seeds(KEYS.resets, 1, 6)[2:]]


def test_close_closes_the_environments() -> None:
    environment = _RecordedSeeds()
    policy = GreedyPolicy(environment.spec, LINEAR)
    HostEvaluator(policy, environment, 4, KEYS, 100).close()  # type: ignore[arg-type]
    assert environment.is_closed


def test_returns_beyond_float32_are_an_error_of_the_environment() -> None:
    evaluator = _evaluator(1, env=EnvConfig(wrappers=[HUGE]))
    with pytest.raises(EnvironmentFailedError, match=r"beyond float32.*ClipReward"):
        evaluator.play(0)
