"""Greedy policies: played while training goes on, and saved for whoever serves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dqnkit.networks import QNetwork
from dqnkit.noise import quiet
from dqnkit.runtime import Tensor, tf

Weights = list[np.ndarray]
"""Values of a Q-network's variables, in the network's order."""


class GreedyPolicy(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Acts by the highest Q-value, with weights of its own that are set from outside.

    Saved, it needs TensorFlow alone to be loaded and used.
    """

    def __init__(
        self, observation_size: int, num_actions: int, fc_layer_params: Sequence[int]
    ) -> None:
        super().__init__(name="greedy_policy")
        self.observation_size = observation_size
        self.num_actions = num_actions
        spec = tf.TensorSpec([observation_size], tf.float32, "observation")
        self._network = QNetwork(spec, num_actions, fc_layer_params, seed=0)
        self._network.create_variables()

    def q_values(self, observations: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of observations float32 [B, observation_size]."""
        return self._network(observations)[0]

    def actions(self, observations: Tensor) -> Tensor:
        """Greedy actions int32 [B]; the first of equals."""
        return tf.argmax(self.q_values(observations), axis=1, output_type=tf.int32)

    def set_weights(self, weights: Weights) -> None:
        """Takes over the weights of a Q-network of the same shape."""
        for variable, value in zip(self._network.variables, weights, strict=True):
            variable.assign(value)

    def save(self, path: Path) -> None:
        """Writes a SavedModel: `observations` to `actions` and `q_values`.

        It is written apart from the class, so that nothing of training comes along.
        """
        module = tf.Module()
        module.weights = self._network.variables

        def serve(observations: Tensor) -> dict[str, Tensor]:
            q_values = self.q_values(observations)
            return {
                "actions": tf.argmax(q_values, axis=1, output_type=tf.int32),
                "q_values": q_values,
            }

        spec = tf.TensorSpec([None, self.observation_size], tf.float32, "observations")
        function = tf.function(serve, input_signature=[spec], autograph=False)
        module.serve = function
        with quiet():
            tf.saved_model.save(module, str(path), signatures=function)
