"""Q-networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dqnkit._system.tensorflow import Tensor, network, tf
from dqnkit.config.fields import required
from dqnkit.config.sections import AgentConfig, Config, NetworkConfig
from dqnkit.envs.specs import EnvSpec, Kind, ObservationSpec, convolution_shapes


class QNetwork(network.Network):  # type: ignore[misc]  # TF-Agents has no types
    """Convolutions for images, dense ReLU layers and a linear output.

    Initialised as TF-Agents' DQN tutorial does. Hidden kernels: truncated normal with variance
    2 / fan_in (He et al., 2015). Output kernel: uniform in ±0.03, its bias -0.2, so that all
    actions start nearly equal.

    Dueling (Wang et al., 2016, equation 9): the last dense layer is divided between two streams, as
    in the paper's network for the corridor; V of the one and the advantages A of the other make
    Q = V + A - mean A.

    All parameters lie in one variable, kernel and bias of each layer from the observation
    upwards: a call from Python into a compiled function pays for each variable that it touches.
    Inside, dense activations are [units, batch] and kernels [units, inputs]. A batch of 64 then
    fills the vectors of a core, which widths such as 50 and 100 do not (`benchmarks/layout.py`
    measures the products both ways). Convolutions are [batch, height, width, channels].
    """

    def __init__(
        self,
        env: EnvSpec,
        config: NetworkConfig,
        seed: int,
        num_outputs: int = 1,
        name: str = "QNetwork",
    ) -> None:
        """Makes the parameters.

        Args:
          env: What the network is given, and how many actions it values.
          config: Its layers, resolved.
          seed: Decides every initial weight.
          num_outputs: Numbers for each action.
          name: TF-Agents names the copy that it makes as the target network.
        """
        # TF-Agents draws a sample of the spec, and cannot of bytes; float32 holds every number that
        # an observation has, and what is discrete up to 2**24.
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
        """Q-values float32 [B, num_actions] of observations float32 [B, *observation.shape]."""
        del step_type
        return self._outputs(observation)[:, :, 0], network_state

    def as_input(self, observation: Tensor) -> Tensor:
        """Observations of any dtype, whose axes may be flattened into one, as `call` takes them."""
        spec = self.input_tensor_spec
        return tf.cast(tf.reshape(observation, [-1, *spec.shape]), spec.dtype)

    def q_values(self, observation: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of what `as_input` takes."""
        return self(self.as_input(observation))[0]

    def _outputs(self, observation: Tensor) -> Tensor:
        """float32 [B, num_actions, num_outputs]."""
        parts = tf.split(self.parameters, [math.prod(shape) for shape in self._shapes])
        parts = [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]
        layers = list(zip(parts[::2], parts[1::2], strict=True))
        below, heads = layers[: self._num_hidden], layers[self._num_hidden :]
        values = self._hidden(observation, below)
        if len(heads) == 1:
            outputs = _linear(values, *heads[0])
            return self._by_action(outputs)
        state, action = values, values
        if self._value_units:
            state, action = values[: self._value_units], values[self._value_units :]
        value, advantages = _linear(state, *heads[0]), self._by_action(_linear(action, *heads[1]))
        advantages -= tf.reduce_mean(advantages, axis=1, keepdims=True)
        return tf.transpose(value)[:, None] + advantages

    def _hidden(self, observation: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Activations float32 [units, B] below the output."""
        depth = len(self._convolutions)
        if depth:
            values = _image(observation, self._observation)
            strides = [stride for _, _, stride in self._convolutions]
            for (kernel, bias), stride in zip(layers[:depth], strides, strict=True):
                values = tf.nn.relu(tf.nn.conv2d(values, kernel, stride, "VALID") + bias)
            values = tf.reshape(values, [-1, math.prod(values.shape[1:])])
        else:
            values = _features(observation, self._observation)
        values = tf.transpose(values)
        for kernel, bias in layers[depth:]:
            values = tf.nn.relu(_linear(values, kernel, bias))
        return values

    def _by_action(self, outputs: Tensor) -> Tensor:
        """[num_actions * num_outputs, B] as [B, num_actions, num_outputs]."""
        return tf.reshape(tf.transpose(outputs), [-1, self._num_actions, self._num_outputs])

    def _hidden_shapes(self, dense: tuple[int, ...]) -> tuple[list[tuple[int, ...]], int]:
        """Of the kernels below the output; and what the first dense one is given."""
        shapes: list[tuple[int, ...]] = []
        inputs = self._observation.num_features
        if self._convolutions:
            outputs = convolution_shapes(self._convolutions, self._observation)
            for (_, _, channels), (filters, kernel, _) in zip(
                outputs, self._convolutions, strict=False
            ):
                shapes.append((kernel, kernel, channels, filters))
            inputs = math.prod(outputs[-1])
        shapes += [(units, below) for below, units in itertools.pairwise([inputs, *dense])]
        return shapes, inputs

    def _output_shapes(self, below: int, *, dueling: bool) -> list[tuple[int, ...]]:
        outputs = self._num_actions * self._num_outputs
        if not dueling:
            return [(outputs, below)]
        return [
            (self._num_outputs, self._value_units or below),
            (outputs, below - self._value_units),
        ]


class CategoricalQNetwork(QNetwork):
    """A distribution of returns for each action (Bellemare et al., 2017).

    It is given by logits of probabilities over `num_atoms` returns, spaced equally from `v_min` to
    `v_max`; with dueling, value and advantages are logits too (Hessel et al., 2018).
    """

    def __init__(
        self,
        env: EnvSpec,
        config: NetworkConfig,
        seed: int,
        agent: AgentConfig,
        name: str = "CategoricalQNetwork",
    ) -> None:
        """As `QNetwork`; the agent's configuration says which returns."""
        self.num_atoms = required(agent.num_atoms)
        super().__init__(env, config, seed, self.num_atoms, name)
        v_min, v_max = required(agent.v_min), required(agent.v_max)
        self.support = np.linspace(v_min, v_max, self.num_atoms, dtype=np.float32)

    def call(
        self, observation: Tensor, step_type: Any = None, network_state: Any = (), **_: Any
    ) -> tuple[Tensor, Any]:
        """Logits float32 [B, num_actions, num_atoms] of observations as `QNetwork` takes them."""
        del step_type
        return self._outputs(observation), network_state

    def q_values(self, observation: Tensor) -> Tensor:
        """See `QNetwork`: the mean of each distribution."""
        return self.mean(self(self.as_input(observation))[0])

    def mean(self, logits: Tensor) -> Tensor:
        """Means float32 [...] of the distributions of logits [..., num_atoms]."""
        return tf.linalg.matvec(tf.nn.softmax(logits), self.support)


def make_network(config: Config, env: EnvSpec, seed: int) -> QNetwork:
    """The network that a resolved configuration asks for."""
    if config.agent.is_categorical:
        return CategoricalQNetwork(env, config.network, seed, config.agent)
    return QNetwork(env, config.network, seed)


def _units(kernel: tuple[int, ...]) -> int:
    """Outputs of a layer: filters stand last in a convolution's kernel, units first in ours."""
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
        # Keras takes the last axis but one for the inputs.
        kernel = initializer(shape) if len(shape) == 4 else tf.transpose(initializer(shape[::-1]))
        bias = tf.fill([_units(shape)], -0.2 if is_output else 0.0)
        parameters += [tf.reshape(kernel, [-1]), bias]
    return tf.concat(parameters, axis=0)


def _linear(values: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """[units, batch] of values [inputs, batch], kernel [units, inputs] and bias [units]."""
    return _add_bias(tf.matmul(kernel, values), bias)


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
