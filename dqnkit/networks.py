"""Q-networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dqnkit.runtime import Tensor, sequential, tf


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
def _add_bias(values: Tensor, bias: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """`values + bias`; the bias's gradient is summed over the batch by a matrix product.

    XLA:CPU sums columns in a scalar loop, and everything behind it waits.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
        ones = tf.ones_like(upstream[:, :1])
        return upstream, tf.matmul(ones, upstream, transpose_a=True)[0]

    return values + bias, gradient


class Dense(tf.keras.layers.Dense):  # type: ignore[misc]  # tf_keras has no types
    """`tf.keras.layers.Dense` for [batch, n] inputs, in operations that XLA:CPU compiles well."""

    def call(self, inputs: Tensor) -> Tensor:
        """Activations float32 [B, units] of features float32 [B, n]."""
        return self.activation(_add_bias(tf.matmul(inputs, self.kernel), self.bias))


class QValues(Dense):
    """A linear layer with one unit an action.

    XLA:CPU compiles the product of [batch, n] and [n, few] to a scalar loop. As one
    matrix-vector product an action it is vectorised.
    """

    MAX_SPLIT = 8

    def call(self, inputs: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of features float32 [B, n]."""
        if self.units > self.MAX_SPLIT:
            return super().call(inputs)
        columns = [tf.linalg.matvec(inputs, self.kernel[:, i]) for i in range(self.units)]
        return _add_bias(tf.stack(columns, axis=1), self.bias)


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
        Dense(
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
