"""Q-networks with all parameters in one variable."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from dqnkit._system.tensorflow import Tensor, network, tf
from dqnkit.agents import inputs
from dqnkit.config.fields import required
from dqnkit.config.sections import AgentConfig, Config, NetworkConfig
from dqnkit.envs.specs import ArraySpec, EnvSpec, ObservationKind, convolution_shapes


class QNetwork(network.Network):  # type: ignore[misc]  # TF-Agents has no types
    """Convolutions for images, dense ReLU layers and a linear output.

    An observation of several arrays has a branch for each: convolutions for each image, with
    parameters of their own, and the scaled or one-hot numbers of the others. The dense layers read
    all branches side by side.

    Initialization follows TF-Agents' DQN tutorial. Hidden kernels are drawn from a truncated normal
    distribution with variance 2 / fan_in (He et al., 2015), the output kernel uniformly from ±0.03;
    hidden biases are 0 and output biases -0.2, so that all actions start with nearly equal values.

    Dueling (Wang et al., 2016, equation 9) divides the last dense layer between two streams, as in
    the paper's network for the corridor. One stream gives the value V, the other the advantages A,
    and Q = V + A - mean A.

    All parameters are stored in one variable, the kernel and the bias of each layer in order from
    input to output, because a call from Python into a compiled function takes longer with each
    variable that it uses. Dense activations are [units, batch] and dense kernels [units, inputs]:
    a batch of 64 then fills a core's vector registers, which widths such as 50 and 100 do not
    (`benchmarks/layout.py` measures both layouts). Convolutions are [batch, height, width,
    channels].
    """

    def __init__(
        self,
        env: EnvSpec,
        config: NetworkConfig,
        seed: int,
        num_outputs: int = 1,
        name: str = "QNetwork",
    ) -> None:
        """Create the parameters.

        Args:
          env: Specification of the environment: its observations and the number of actions.
          config: The resolved network section.
          seed: Seed of the initial parameters.
          num_outputs: Number of outputs for each action.
          name: Name of the network; TF-Agents sets it on the copy that becomes the target network.
        """
        # float32 and not the observation's dtype: TF-Agents samples the spec, which fails for
        # bytes. float32 holds every stored value of a frame exactly.
        spec = tf.TensorSpec(env.observation.shape, tf.float32, "observation")
        super().__init__(input_tensor_spec=spec, state_spec=(), name=name)
        self._observation = env.observation
        self._num_actions, self._num_outputs = env.num_actions, num_outputs
        self._convolutions = tuple(config.conv_layer_params or ())
        dense = tuple(config.fc_layer_params or ())
        self._value_units = dense[-1] // 2 if config.dueling and dense else 0
        hidden, features = self._hidden_shapes(dense)
        output = self._output_shapes([features, *dense][-1], dueling=config.dueling)
        shapes = [*hidden, *output]
        self._num_hidden = len(hidden)
        self._shapes = [shape for kernel in shapes for shape in (kernel, (_units(kernel),))]
        parameters = _initial_parameters(hidden, output, seed)
        self.parameters = tf.Variable(parameters, name="parameters")

    def call(
        self, observation: Tensor, step_type: Any = None, network_state: Any = (), **_: Any
    ) -> tuple[Tensor, Any]:
        """Return Q-values, float32 [B, num_actions], and the network state.

        Args:
          observation: Observations, float32 [B, *observation.shape].
          step_type: Unused; part of TF-Agents' interface.
          network_state: State that is returned unchanged.
          **_: Unused; part of TF-Agents' interface.
        """
        del step_type
        return self._outputs(self._split(observation))[:, :, 0], network_state

    def as_input(self, observation: Tensor) -> Tensor:
        """Convert observations of any dtype, [B, *observation.shape] or [B, size], for `call`."""
        spec = self.input_tensor_spec
        return tf.cast(tf.reshape(observation, [-1, *spec.shape]), spec.dtype)

    def q_values(self, observation: Tensor) -> Tensor:
        """Return Q-values, float32 [B, num_actions], of observations that `as_input` accepts."""
        return self.q_values_of_arrays(self._split(self.as_input(observation)))

    def q_values_of_arrays(self, arrays: Sequence[Tensor]) -> Tensor:
        """Return Q-values, float32 [B, num_actions].

        Args:
          arrays: Arrays of the observations with stored values, [B, frame_stack, *shape] each.
        """
        return self._outputs(arrays)[:, :, 0]

    def _split(self, observation: Tensor) -> list[Tensor]:
        return inputs.split_frames(observation, self._observation)

    def _outputs(self, arrays: Sequence[Tensor]) -> Tensor:
        """Return the outputs of all actions, float32 [B, num_actions, num_outputs]."""
        parts = tf.split(self.parameters, [math.prod(shape) for shape in self._shapes])
        parts = [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]
        layers = list(zip(parts[::2], parts[1::2], strict=True))
        hidden, heads = layers[: self._num_hidden], layers[self._num_hidden :]
        values = self._hidden(arrays, hidden)
        if len(heads) == 1:
            outputs = _linear(values, *heads[0])
            return self._by_action(outputs)
        value_stream, advantage_stream = values, values
        if self._value_units:
            value_stream = values[: self._value_units]
            advantage_stream = values[self._value_units :]
        value = _linear(value_stream, *heads[0])
        advantages = self._by_action(_linear(advantage_stream, *heads[1]))
        advantages -= tf.reduce_mean(advantages, axis=1, keepdims=True)
        return tf.transpose(value)[:, None] + advantages

    def _hidden(self, arrays: Sequence[Tensor], layers: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the activations of the last hidden layer, float32 [units, B]."""
        depth, branches = len(self._convolutions), []
        for spec, array in zip(self._observation.arrays, arrays, strict=True):
            if self._is_convolved(spec):
                branches.append(self._convolve(inputs.image(array, spec), layers[:depth]))
                layers = layers[depth:]
            else:
                branches.append(inputs.features(array, spec))
        values = tf.transpose(branches[0] if len(branches) == 1 else tf.concat(branches, axis=1))
        for kernel, bias in layers:
            values = tf.nn.relu(_linear(values, kernel, bias))
        return values

    def _is_convolved(self, spec: ArraySpec) -> bool:
        return bool(self._convolutions) and spec.kind is ObservationKind.IMAGE

    def _convolve(self, images: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the flat output of the convolutions, float32 [B, units]."""
        values = images
        for (_, _, stride), (kernel, bias) in zip(self._convolutions, layers, strict=True):
            values = tf.nn.relu(tf.nn.conv2d(values, kernel, stride, "VALID") + bias)
        return tf.reshape(values, [-1, math.prod(values.shape[1:])])

    def _by_action(self, outputs: Tensor) -> Tensor:
        """Reshape [num_actions * num_outputs, B] to [B, num_actions, num_outputs]."""
        return tf.reshape(tf.transpose(outputs), [-1, self._num_actions, self._num_outputs])

    def _hidden_shapes(self, dense: tuple[int, ...]) -> tuple[list[tuple[int, ...]], int]:
        """Return the shapes of the hidden kernels, and the number of inputs of the dense layers."""
        shapes: list[tuple[int, ...]] = []
        stack, width = self._observation.frame_stack, 0
        for spec in self._observation.arrays:
            if not self._is_convolved(spec):
                width += stack * spec.num_features
                continue
            outputs = convolution_shapes(self._convolutions, spec, stack)
            for (_, _, channels), (filters, kernel, _) in zip(
                outputs, self._convolutions, strict=False
            ):
                shapes.append((kernel, kernel, channels, filters))
            width += math.prod(outputs[-1])
        shapes += [(units, inner) for inner, units in itertools.pairwise([width, *dense])]
        return shapes, width

    def _output_shapes(self, inputs: int, *, dueling: bool) -> list[tuple[int, ...]]:
        outputs = self._num_actions * self._num_outputs
        if not dueling:
            return [(outputs, inputs)]
        return [
            (self._num_outputs, self._value_units or inputs),
            (outputs, inputs - self._value_units),
        ]


class CategoricalQNetwork(QNetwork):
    """A Q-network that gives a distribution of returns for each action (Bellemare et al., 2017).

    The outputs are logits of the probabilities of `num_atoms` returns, spaced equally from `v_min`
    to `v_max`. With dueling, value and advantages are logits too (Hessel et al., 2018).
    """

    def __init__(
        self,
        env: EnvSpec,
        config: NetworkConfig,
        seed: int,
        agent: AgentConfig,
        name: str = "CategoricalQNetwork",
    ) -> None:
        """Create the parameters and the support.

        Args:
          env: Specification of the environment.
          config: The resolved network section.
          seed: Seed of the initial parameters.
          agent: The resolved agent section, which defines the support.
          name: Name of the network.
        """
        self.num_atoms = required(agent.num_atoms)
        super().__init__(env, config, seed, self.num_atoms, name)
        v_min, v_max = required(agent.v_min), required(agent.v_max)
        self.support = np.linspace(v_min, v_max, self.num_atoms, dtype=np.float32)

    @override
    def call(
        self, observation: Tensor, step_type: Any = None, network_state: Any = (), **_: Any
    ) -> tuple[Tensor, Any]:
        """Return logits, float32 [B, num_actions, num_atoms], and the network state."""
        del step_type
        return self._outputs(self._split(observation)), network_state

    @override
    def q_values_of_arrays(self, arrays: Sequence[Tensor]) -> Tensor:
        """Return the mean of each action's distribution, float32 [B, num_actions]."""
        return self.mean(self._outputs(arrays))

    def mean(self, logits: Tensor) -> Tensor:
        """Return the means, float32 [...], of distributions with logits [..., num_atoms]."""
        return tf.linalg.matvec(tf.nn.softmax(logits), self.support)


def make_network(config: Config, env: EnvSpec, seed: int) -> QNetwork:
    """Return the network of a resolved configuration.

    Args:
      config: The resolved configuration.
      env: Specification of the environment.
      seed: Seed of the initial parameters.
    """
    if config.agent.is_categorical:
        return CategoricalQNetwork(env, config.network, seed, config.agent)
    return QNetwork(env, config.network, seed)


def _units(kernel: tuple[int, ...]) -> int:
    """Return the number of outputs of a kernel: its last axis if convolutional, else its first."""
    return kernel[-1] if len(kernel) == 4 else kernel[0]


def _initial_parameters(
    hidden: list[tuple[int, ...]], output: list[tuple[int, ...]], seed: int
) -> Tensor:
    kernels = [*hidden, *output]
    seeds = np.random.SeedSequence(seed).generate_state(len(kernels))
    parameters = []
    for layer, shape in enumerate(kernels):
        is_output = layer >= len(hidden)
        initializer = (_output_kernel if is_output else _hidden_kernel)(int(seeds[layer]))
        # Keras computes fan_in from the second-to-last axis, which holds the units of a dense
        # kernel here.
        kernel = initializer(shape) if len(shape) == 4 else tf.transpose(initializer(shape[::-1]))
        bias = tf.fill([_units(shape)], -0.2 if is_output else 0.0)
        parameters += [tf.reshape(kernel, [-1]), bias]
    return tf.concat(parameters, axis=0)


def _linear(values: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Return kernel [units, inputs] times values [inputs, batch], plus bias [units]."""
    return _add_bias(tf.matmul(kernel, values), bias)


def _hidden_kernel(seed: int) -> Any:
    return tf.keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_in", distribution="truncated_normal", seed=seed
    )


def _output_kernel(seed: int) -> Any:
    return tf.keras.initializers.RandomUniform(-0.03, 0.03, seed=seed)


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
def _add_bias(values: Tensor, bias: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Add a bias [units] to values [units, batch].

    The bias's gradient is summed over the batch by a matrix product: XLA:CPU would compute the sum
    in a scalar loop, which delays every operation after it.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
        return upstream, tf.linalg.matvec(upstream, tf.ones_like(upstream[0]))

    return values + bias[:, None], gradient
