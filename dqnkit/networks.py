"""Q-networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dqnkit.config import NetworkConfig
from dqnkit.runtime import Tensor, network, tf
from dqnkit.specs import Kind, ObservationSpec, convolution_shapes


class QNetwork(network.Network):  # type: ignore[misc]  # TF-Agents has no types
    """Convolutions for images, dense ReLU layers and a linear output.

    Initialised as TF-Agents' DQN tutorial does. Hidden kernels: truncated normal with variance
    2 / fan_in (He et al., 2015). Output kernel: uniform in ±0.03, its bias -0.2, so that all
    actions start nearly equal.

    All parameters lie in one variable, kernel and bias of each layer from the observation
    upwards: a call from Python into a compiled function pays for each variable that it touches.
    Inside, dense activations are [units, batch] and kernels [units, inputs]. A batch of 64 then
    fills the vectors of a core, which widths such as 50 and 100 do not (`benchmarks/layout.py`
    measures the products both ways). Convolutions are [batch, height, width, channels].
    """

    def __init__(
        self,
        observation: ObservationSpec,
        num_actions: int,
        config: NetworkConfig,
        seed: int,
        name: str = "QNetwork",
    ) -> None:
        """Makes the parameters.

        Args:
          observation: What the network is given.
          num_actions: Units of the output.
          config: Its layers, resolved.
          seed: Decides every initial weight.
          name: TF-Agents names the copy that it makes as the target network.
        """
        # TF-Agents draws a sample of the spec, and cannot of bytes; float32 holds every number that
        # an observation has, and what is discrete up to 2**24.
        spec = tf.TensorSpec(observation.shape, tf.float32, "observation")
        super().__init__(input_tensor_spec=spec, state_spec=(), name=name)
        self._observation = observation
        self._convolutions = tuple(config.conv_layer_params or ())
        kernels = self._kernel_shapes(num_actions, tuple(config.fc_layer_params or ()))
        self._shapes = [shape for kernel in kernels for shape in (kernel, (_units(kernel),))]
        self.parameters = tf.Variable(_initial_parameters(kernels, seed), name="parameters")

    def call(
        self, observation: Tensor, step_type: Any = None, network_state: Any = (), **_: Any
    ) -> tuple[Tensor, Any]:
        """Q-values float32 [B, num_actions] of observations float32 [B, *observation.shape]."""
        del step_type
        parts = tf.split(self.parameters, [math.prod(shape) for shape in self._shapes])
        parts = [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]
        layers = list(zip(parts[::2], parts[1::2], strict=True))
        below, dense = layers[: len(self._convolutions)], layers[len(self._convolutions) :]
        if below:
            values = _image(observation, self._observation)
            strides = [stride for _, _, stride in self._convolutions]
            for (kernel, bias), stride in zip(below, strides, strict=True):
                values = tf.nn.relu(tf.nn.conv2d(values, kernel, stride, "VALID") + bias)
            values = tf.reshape(values, [-1, math.prod(values.shape[1:])])
        else:
            values = _features(observation, self._observation)
        values = tf.transpose(values)
        for kernel, bias in dense[:-1]:
            values = tf.nn.relu(_add_bias(tf.matmul(kernel, values), bias))
        kernel, bias = dense[-1]
        return tf.transpose(_add_bias(tf.matmul(kernel, values), bias)), network_state

    def as_input(self, observation: Tensor) -> Tensor:
        """Observations of any dtype, whose axes may be flattened into one, as `call` takes them."""
        spec = self.input_tensor_spec
        return tf.cast(tf.reshape(observation, [-1, *spec.shape]), spec.dtype)

    def q_values(self, observation: Tensor) -> Tensor:
        """As `call`, for what `as_input` takes."""
        return self(self.as_input(observation))[0]

    def _kernel_shapes(self, num_actions: int, dense: tuple[int, ...]) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []
        inputs = self._observation.num_features
        if self._convolutions:
            outputs = convolution_shapes(self._convolutions, self._observation)
            for (_, _, channels), (filters, kernel, _) in zip(
                outputs, self._convolutions, strict=False
            ):
                shapes.append((kernel, kernel, channels, filters))
            inputs = math.prod(outputs[-1])
        widths = [inputs, *dense, num_actions]
        return shapes + [(units, below) for below, units in itertools.pairwise(widths)]


def _units(kernel: tuple[int, ...]) -> int:
    """Outputs of a layer: filters stand last in a convolution's kernel, units first in ours."""
    return kernel[-1] if len(kernel) == 4 else kernel[0]


def _initial_parameters(kernels: list[tuple[int, ...]], seed: int) -> Tensor:
    seeds = np.random.SeedSequence(seed).generate_state(len(kernels))
    parameters = []
    for layer, shape in enumerate(kernels):
        is_output = layer == len(kernels) - 1
        initializer = (_output_kernel if is_output else _hidden_kernel)(int(seeds[layer]))
        # Keras takes the last axis but one for the inputs.
        kernel = initializer(shape) if len(shape) == 4 else tf.transpose(initializer(shape[::-1]))
        bias = tf.fill([_units(shape)], -0.2 if is_output else 0.0)
        parameters += [tf.reshape(kernel, [-1]), bias]
    return tf.concat(parameters, axis=0)


def _features(observation: Tensor, spec: ObservationSpec) -> Tensor:
    """Flat float32 [B, num_features]: one-hot if discrete, scaled if bytes."""
    if spec.kind is Kind.DISCRETE:
        index = tf.cast(observation, tf.int32) - spec.first_value
        one_hot = tf.one_hot(index, spec.num_values)
        return tf.reshape(one_hot, [-1, spec.num_features])
    return tf.reshape(observation, [-1, spec.size]) * spec.scale


def _image(observation: Tensor, spec: ObservationSpec) -> Tensor:
    """Scaled float32 [B, height, width, channels]; stacked frames are channels."""
    height, width, channels = spec.image_shape
    each = channels // spec.frame_stack
    frames = observation * spec.scale
    if spec.channels_first:
        frames = tf.reshape(frames, [-1, channels, height, width])
        return tf.transpose(frames, [0, 2, 3, 1])
    frames = tf.reshape(frames, [-1, spec.frame_stack, height, width, each])
    return tf.reshape(tf.transpose(frames, [0, 2, 3, 1, 4]), [-1, height, width, channels])


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
