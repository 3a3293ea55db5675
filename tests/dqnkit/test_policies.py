from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from dqnkit.config import NetworkConfig
from dqnkit.policies import GreedyPolicy
from dqnkit.runtime import tf
from dqnkit.specs import EnvSpec, Kind, ObservationSpec
from tests.environments import vector_spec


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


def test_a_saved_policy_takes_observations_and_gives_actions_as_the_environment_has_them() -> None:
    observation = ObservationSpec(Kind.DISCRETE, (), "int64", num_values=4, first_value=10)
    policy = GreedyPolicy(
        EnvSpec("", observation, num_actions=2, first_action=-1), NetworkConfig(fc_layer_params=())
    )
    better_left = np.float32([[1, 0, 1, 0], [0, 1, 0, 1]])
    policy.set_weights(np.append(better_left, [0.0, 0.0]))
    policy.save(Path("saved"))
    serve = tf.saved_model.load("saved").signatures["serving_default"]
    actions = serve(observations=tf.constant([10, 11, 12, 13], tf.int64))["actions"]
    np.testing.assert_array_equal(actions, [-1, 0, -1, 0])
