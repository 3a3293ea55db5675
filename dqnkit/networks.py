"""Q-networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dqnkit.runtime import Tensor, sequential, tf


class QValues(tf.keras.layers.Dense):  # type: ignore[misc]  # tf_keras has no types
    """A linear layer with one unit an action: the same values as `Dense`, sooner.

    XLA:CPU compiles the product of [batch, n] and [n, few] to a scalar loop. As one
    matrix-vector product an action it is vectorised.
    """

    MAX_SPLIT = 8

    def call(self, inputs: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of features float32 [B, n]."""
        if self.units > self.MAX_SPLIT:
            return super().call(inputs)
        columns = [tf.linalg.matvec(inputs, self.kernel[:, i]) for i in range(self.units)]
        return tf.stack(columns, axis=1) + self.bias


def q_network(num_actions: int, fc_layer_params: Sequence[int], seed: int) -> sequential.Sequential:
    """Dense ReLU layers and a linear output, initialised as TF-Agents' DQN tutorial does.

    Hidden kernels: truncated normal with variance 2 / fan_in (He et al., 2015). Output kernel:
    uniform in ±0.03, its bias -0.2, so that all actions start nearly equal.

    Args:
      num_actions: Units of the output.
      fc_layer_params: Units of each hidden layer.
      seed: Decides every initial weight.
    """
    seeds = np.random.SeedSequence(seed).generate_state(len(fc_layer_params) + 1)
    layers = [
        tf.keras.layers.Dense(
            units,
            activation="relu",
            kernel_initializer=tf.keras.initializers.VarianceScaling(
                scale=2.0, mode="fan_in", distribution="truncated_normal", seed=int(layer_seed)
            ),
        )
        for units, layer_seed in zip(fc_layer_params, seeds, strict=False)
    ]
    layers.append(
        QValues(
            num_actions,
            kernel_initializer=tf.keras.initializers.RandomUniform(
                -0.03, 0.03, seed=int(seeds[-1])
            ),
            bias_initializer=tf.keras.initializers.Constant(-0.2),
        )
    )
    return sequential.Sequential(layers, name="q_network")
