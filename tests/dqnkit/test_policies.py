from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from dqnkit.config import NetworkConfig
from dqnkit.envs.cartpole import CartPole
from dqnkit.evaluation.graph import GraphEvaluator
from dqnkit.policies import GreedyPolicy
from dqnkit.runtime import tf
from tests.environments import vector_spec

# Leans against the pole's fall: what a solved CartPole looks like in a linear network.
LEAN = np.float32([[-0.1, -0.3, -1.0, -0.4], [0.1, 0.3, 1.0, 0.4]])


def _policy(kernel: np.ndarray) -> GreedyPolicy:
    policy = GreedyPolicy(vector_spec(4, num_actions=2), NetworkConfig(fc_layer_params=()))
    policy.set_weights(np.append(kernel, [0.0, 0.0]))
    return policy


def test_a_good_policy_scores_500_and_a_bad_one_about_nine() -> None:
    policy = _policy(LEAN)
    evaluator = GraphEvaluator(policy, CartPole(), num_episodes=30, seed=0)
    returns, lengths = evaluator.play(0)
    np.testing.assert_array_equal(returns, 500.0)
    np.testing.assert_array_equal(lengths, 500)
    policy.set_weights(np.append(-LEAN, [0.0, 0.0]))  # the same compiled function
    returns, lengths = evaluator.play(0)
    assert 8 <= returns.mean() <= 10
    np.testing.assert_array_equal(returns, lengths)


def test_episodes_are_those_of_seed_and_counter() -> None:
    policy = _policy(-LEAN)
    first, second = (GraphEvaluator(policy, CartPole(), 50, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.play(3)[0], first.play(3)[0])
    assert not np.array_equal(first.play(3)[0], first.play(4)[0])
    assert not np.array_equal(first.play(3)[0], second.play(3)[0])


def test_a_saved_policy_needs_tensorflow_alone() -> None:
    policy = GreedyPolicy(vector_spec(4), NetworkConfig(fc_layer_params=(6, 5)))
    policy.save(Path("saved"))
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    np.save("observations.npy", observations)
    code = """
import sys, numpy as np, tensorflow as tf
policy = tf.saved_model.load("saved").signatures["serving_default"]
served = policy(tf.constant(np.load("observations.npy")))
strangers = {"tf_agents", "dqnkit", "tf_keras"} & set(sys.modules)
assert not strangers, strangers
np.savez("served.npz", **{name: value.numpy() for name, value in served.items()})
"""
    # A server's environment, not ours, where TensorFlow was told to use another Keras.
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    served = np.load("served.npz")
    expected = policy.q_values(tf.constant(observations)).numpy()
    np.testing.assert_allclose(served["q_values"], expected, rtol=1e-5)
    np.testing.assert_array_equal(served["actions"], expected.argmax(axis=1))
    assert served["actions"].dtype == np.int32
