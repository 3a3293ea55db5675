from __future__ import annotations

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents.networks import CategoricalQNetwork, QNetwork
from dqnkit.config.sections import AgentConfig, NetworkConfig
from dqnkit.envs.specs import EnvSpec, ObservationKind, ObservationSpec
from tests.specs import observation_spec

Layers = tuple[tuple[int, int, int], ...]

VECTOR = observation_spec(ObservationKind.VECTOR, (4,), "float32")
IMAGE = observation_spec(ObservationKind.IMAGE, (12, 10, 3), "uint8", low=0, high=255)


def _network(
    observation: ObservationSpec, num_actions: int, convolutions: Layers, dense: tuple[int, ...]
) -> QNetwork:
    config = NetworkConfig(conv_layer_params=convolutions, fc_layer_params=dense)
    network = QNetwork(EnvSpec("", observation, num_actions), config, seed=0)
    network.create_variables()
    return network


def _keras(
    observation: ObservationSpec, num_actions: int, convolutions: Layers, dense: tuple[int, ...]
) -> tf.keras.Sequential:
    layers = [tf.keras.layers.Rescaling(observation.arrays[0].scale)]
    layers += [tf.keras.layers.Conv2D(f, k, s, activation="relu") for f, k, s in convolutions]
    layers += [tf.keras.layers.Flatten()]
    layers += [tf.keras.layers.Dense(n, "relu") for n in dense]
    keras = tf.keras.Sequential([*layers, tf.keras.layers.Dense(num_actions)])
    keras.build([None, *observation.shape])
    return keras


def _random_parameters(keras: tf.keras.Sequential, rng: np.random.Generator) -> np.ndarray:
    """Set Keras's variables to random values and return these in the order of `parameters`."""
    flat = []
    for variable in keras.trainable_variables:
        value = rng.normal(size=variable.shape).astype(np.float32) / 3
        variable.assign(value)
        flat.append(value.T.ravel() if value.ndim == 2 else value.ravel())
    return np.concatenate(flat)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("observation", "num_actions", "convolutions", "dense"),
    [
        (VECTOR, 2, (), ()),
        (VECTOR, 3, (), (7,)),
        (VECTOR, 18, (), (100, 50)),
        (IMAGE, 4, ((5, 4, 2), (6, 3, 1)), (8,)),
        (IMAGE, 4, (), (8,)),
    ],
)
def test_values_and_gradients_equal_those_of_keras_layers(
    observation: ObservationSpec,
    num_actions: int,
    convolutions: Layers,
    dense: tuple[int, ...],
    jit_compile: bool,
) -> None:
    ours = _network(observation, num_actions, convolutions, dense)
    keras = _keras(observation, num_actions, convolutions, dense)
    rng = np.random.default_rng(0)
    ours.parameters.assign(_random_parameters(keras, rng))
    numbers = rng.normal(size=(9, *observation.shape))
    if observation is IMAGE:
        numbers = rng.integers(0, 256, numbers.shape)
    observations = tf.constant(numbers, tf.as_dtype(observation.dtype))
    weights = tf.constant(rng.normal(size=(9, num_actions)), tf.float32)

    @tf.function(jit_compile=jit_compile)
    def both() -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(persistent=True) as tape:
            mine = ours.q_values(observations)
            theirs = keras(tf.cast(observations, tf.float32))
            losses = tf.reduce_sum(mine * weights), tf.reduce_sum(theirs * weights)
        return (
            (mine, theirs),
            tape.gradient(losses[0], ours.parameters),
            tape.gradient(losses[1], keras.trainable_variables),
        )

    (mine, theirs), gradient, expected = both()
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    flat = [(g.numpy().T if len(g.shape) == 2 else g.numpy()).ravel() for g in expected]
    np.testing.assert_allclose(gradient, np.concatenate(flat), rtol=1e-3, atol=2e-3)


def test_a_discrete_observation_picks_a_column() -> None:
    spec = observation_spec(ObservationKind.DISCRETE, (), "int64", num_values=5, first_value=-1)
    network = _network(spec, 2, (), ())
    kernel = np.arange(10, dtype=np.float32).reshape(2, 5)
    network.parameters.assign(np.append(kernel, [0.0, 0.5]))
    values = network.q_values(tf.constant([0, 4, 1], tf.uint8)).numpy()
    np.testing.assert_array_equal(values, [[0.0, 5.5], [4.0, 9.5], [1.0, 6.5]])


@pytest.mark.parametrize(
    ("frame_shape", "stack"),
    [
        ((6, 5), 1),
        ((6, 5), 4),
        ((6, 5, 2), 1),
        ((6, 5, 2), 3),
        ((2, 6, 5), 1),
        ((2, 6, 5), 3),
        ((6, 6, 6), 1),
    ],
)
def test_values_do_not_depend_on_the_layout_of_an_image(
    frame_shape: tuple[int, ...], stack: int
) -> None:
    """The network sees [height, width, channels]: stacked frames in order, channels within each."""
    spec = observation_spec(ObservationKind.IMAGE, frame_shape, "uint8", stack, low=0, high=255)
    numbers = np.random.default_rng(0).integers(0, 256, (3, *spec.shape), np.uint8)
    frames = numbers.reshape(3, stack, *frame_shape)
    if len(frame_shape) == 2:
        frames = frames[..., None]
    if spec.arrays[0].channels_first:
        frames = np.moveaxis(frames, 2, -1)
    merged = np.concatenate(list(np.moveaxis(frames, 1, 0)), axis=-1)
    reference = observation_spec(ObservationKind.IMAGE, merged.shape[1:], "uint8", low=0, high=255)
    mine = _network(spec, 3, ((4, 3, 1),), (5,))
    theirs = _network(reference, 3, ((4, 3, 1),), (5,))
    theirs.parameters.assign(mine.parameters)
    np.testing.assert_allclose(
        mine.q_values(tf.constant(numbers)), theirs.q_values(tf.constant(merged)), rtol=1e-5
    )


def test_a_copy_does_not_share_variables() -> None:
    network = _network(VECTOR, 2, (), (3,))
    copied = network.copy(name="TargetQNetwork")
    copied.create_variables()
    network.parameters.assign_add(tf.ones_like(network.parameters))
    assert not np.array_equal(network.parameters, copied.parameters)


def test_dueling_adds_value_and_advantages_from_the_two_halves_of_the_last_layer() -> None:
    config = NetworkConfig(fc_layer_params=(5,), dueling=True)
    network = QNetwork(EnvSpec("", VECTOR, 3), config, seed=0)
    rng = np.random.default_rng(0)
    shapes = [(5, 4), (5,), (1, 2), (1,), (3, 3), (3,)]  # 2 units for the value, 3 for advantages
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    network.create_variables()
    network.parameters.assign(np.concatenate([x.ravel() for x in arrays]))
    kernel, bias, value_kernel, value_bias, advantage_kernel, advantage_bias = arrays
    observations = rng.normal(size=(7, 4)).astype(np.float32)
    hidden = np.maximum(observations @ kernel.T + bias, 0.0)
    value = hidden[:, :2] @ value_kernel.T + value_bias
    advantages = hidden[:, 2:] @ advantage_kernel.T + advantage_bias
    expected = value + advantages - advantages.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(network.q_values(observations), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dense", [(), (7,), (100, 50)])
def test_dueling_adds_only_the_parameters_of_one_output(dense: tuple[int, ...]) -> None:
    plain, dueling = (
        QNetwork(
            EnvSpec("", VECTOR, 3), NetworkConfig(fc_layer_params=dense, dueling=dueling), seed=0
        )
        for dueling in (False, True)
    )
    assert int(tf.size(dueling.parameters)) <= int(tf.size(plain.parameters)) + 1 + 4


CATEGORICAL = AgentConfig(kind="c51", num_atoms=3, v_min=-1.0, v_max=3.0)


@pytest.mark.parametrize("dueling", [False, True])
def test_a_categorical_networks_q_value_is_the_mean_return(dueling: bool) -> None:
    spec = EnvSpec("", observation_spec(ObservationKind.VECTOR, (1,), "float32"), 2)
    config = NetworkConfig(fc_layer_params=(), dueling=dueling)
    network = CategoricalQNetwork(spec, config, 0, CATEGORICAL)
    network.create_variables()
    # Kernels are zero and logits are the biases: ln(1, 2, 1) for action 0, ln(1, 1, 2) for 1.
    logits = np.log(np.float32([1, 2, 1, 1, 1, 2]))
    kernel = np.zeros(6, np.float32)
    if dueling:  # the value's logits add to those of both actions, whose mean is subtracted
        shift = np.float32([0.5, 0.0, -0.5])
        mean = logits.reshape(2, 3).mean(axis=0)
        parameters = [np.zeros(3), shift + mean, kernel, logits]
        logits = logits + np.tile(shift, 2)
    else:
        parameters = [kernel, logits]
    network.parameters.assign(np.concatenate(parameters).astype(np.float32))
    given, _ = network(np.zeros((5, 1), np.float32))
    assert given.shape == (5, 2, 3)
    np.testing.assert_allclose(given[0], logits.reshape(2, 3), rtol=1e-5, atol=1e-6)
    probabilities = np.exp(logits.reshape(2, 3))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = probabilities @ [-1.0, 1.0, 3.0]
    np.testing.assert_allclose(network.q_values(np.zeros((5, 1)))[0], expected, rtol=1e-5)
