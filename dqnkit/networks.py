"""Q-networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dqnkit.runtime import Tensor, network, tf


class QNetwork(network.Network):  # type: ignore[misc]  # TF-Agents has no types
    """Dense ReLU layers and a linear output, initialised as TF-Agents' DQN tutorial does.

    Hidden kernels: truncated normal with variance 2 / fan_in (He et al., 2015). Output kernel:
    uniform in ±0.03, its bias -0.2, so that all actions start nearly equal.

    Inside, activations are [units, batch] and kernels [units, inputs]. A batch of 64 then fills
    the vectors of a core, which widths such as 50 and 100 do not (`benchmarks/layout.py` measures
    the products both ways).
    """

    def __init__(
        self,
        input_tensor_spec: Any,
        num_actions: int,
        fc_layer_params: Sequence[int],
        seed: int,
        name: str = "QNetwork",
    ) -> None:
        """Makes the variables: kernel and bias of each layer, from the observation upwards.

        Args:
          input_tensor_spec: Of an observation, float32 [n].
          num_actions: Units of the output.
          fc_layer_params: Units of each hidden layer.
          seed: Decides every initial weight.
          name: TF-Agents names the copy that it makes as the target network.
        """
        super().__init__(input_tensor_spec=input_tensor_spec, state_spec=(), name=name)
        widths = [int(input_tensor_spec.shape[0]), *fc_layer_params, num_actions]
        seeds = np.random.SeedSequence(seed).generate_state(len(widths) - 1)
        self._parameters = []
        for layer, (inputs, units) in enumerate(itertools.pairwise(widths)):
            is_output = layer == len(fc_layer_params)
            initializer = _output_kernel if is_output else _hidden_kernel
            kernel = tf.transpose(initializer(int(seeds[layer]))([inputs, units]))
            bias = tf.fill([units], -0.2 if is_output else 0.0)
            self._parameters.append(tf.Variable(kernel, name=f"kernel_{layer}"))
            self._parameters.append(tf.Variable(bias, name=f"bias_{layer}"))

    def call(
        self, observation: Tensor, step_type: Any = None, network_state: Any = (), **_: Any
    ) -> tuple[Tensor, Any]:
        """Q-values float32 [B, num_actions] of observations float32 [B, n]."""
        del step_type
        values = tf.transpose(observation)
        *hidden, (kernel, bias) = zip(self._parameters[::2], self._parameters[1::2], strict=True)
        for hidden_kernel, hidden_bias in hidden:
            values = tf.nn.relu(_add_bias(tf.matmul(hidden_kernel, values), hidden_bias))
        return tf.transpose(_add_bias(tf.matmul(kernel, values), bias)), network_state


def _hidden_kernel(seed: int) -> Any:
    return tf.keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_in", distribution="truncated_normal", seed=seed
    )


def _output_kernel(seed: int) -> Any:
    return tf.keras.initializers.RandomUniform(-0.03, 0.03, seed=seed)


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
def _add_bias(values: Tensor, bias: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """[units, batch] + [units]; the bias's gradient is summed over the batch by a product.

    XLA:CPU sums in a scalar loop, and everything behind it waits.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
        return upstream, tf.linalg.matvec(upstream, tf.ones_like(upstream[0]))

    return values + bias[:, None], gradient
