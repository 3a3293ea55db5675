"""Greedy policies: played while training goes on, and saved for whoever serves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dqnkit.config import NetworkConfig
from dqnkit.networks import QNetwork
from dqnkit.noise import quiet
from dqnkit.runtime import Tensor, tf
from dqnkit.specs import EnvSpec

Weights = np.ndarray
"""A Q-network's parameters, float32 [n]."""


class GreedyPolicy(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Acts by the highest Q-value, with weights of its own that are set from outside.

    Saved, it needs TensorFlow alone to be loaded and used.
    """

    def __init__(self, spec: EnvSpec, network: NetworkConfig) -> None:
        super().__init__(name="greedy_policy")
        self.spec = spec
        self._network = QNetwork(spec.observation, spec.num_actions, network, seed=0)
        self._network.create_variables()

    def q_values(self, observations: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of observations [B, *observation.shape]."""
        return self._network.q_values(observations)

    def actions(self, observations: Tensor) -> Tensor:
        """Greedy actions int32 [B], counted from 0; the first of equals."""
        return tf.argmax(self.q_values(observations), axis=1, output_type=tf.int32)

    def set_weights(self, weights: Weights) -> None:
        """Takes over the weights of a Q-network of the same shape."""
        self._network.parameters.assign(weights)

    def save(self, path: Path) -> None:
        """Writes a SavedModel: `observations` to `actions` and `q_values`.

        Observations are Gymnasium's own, [B, *observation.shape], and so are actions: the first
        has the number that the environment gives it. It is written apart from the class, so that
        nothing of training comes along.
        """
        module = tf.Module()
        module.parameters = self._network.parameters

        def serve(observations: Tensor) -> dict[str, Tensor]:
            q_values = self.q_values(observations)
            best = tf.argmax(q_values, axis=1, output_type=tf.int32)
            return {"actions": best + self.spec.first_action, "q_values": q_values}

        observation = self.spec.observation
        spec = tf.TensorSpec([None, *observation.shape], observation.dtype, "observations")
        function = tf.function(serve, input_signature=[spec], autograph=False)
        module.serve = function
        with quiet():
            tf.saved_model.save(module, str(path), signatures=function)
