from __future__ import annotations

import numpy as np
import pytest

from dqnkit.networks import QNetwork
from dqnkit.runtime import tf


def _network(num_actions: int, fc_layer_params: list[int]) -> QNetwork:
    network = QNetwork(tf.TensorSpec([4], tf.float32), num_actions, fc_layer_params, seed=0)
    network.create_variables()
    return network


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("num_actions", "hidden"), [(2, []), (3, [7]), (18, [100, 50])])
def test_values_and_gradients_are_those_of_keras_dense_layers(
    num_actions: int, hidden: list[int], jit_compile: bool
) -> None:
    ours = _network(num_actions, hidden)
    widths = [*hidden, num_actions]
    keras = tf.keras.Sequential(
        [
            tf.keras.layers.Dense(n, "relu" if i < len(hidden) else None)
            for i, n in enumerate(widths)
        ]
    )
    keras.build([None, 4])
    rng = np.random.default_rng(0)
    for mine, theirs in zip(ours.trainable_variables, keras.trainable_variables, strict=True):
        value = rng.normal(size=mine.shape).astype(np.float32)
        mine.assign(value)
        theirs.assign(value.T)
    observations = tf.constant(rng.normal(size=(9, 4)), tf.float32)
    weights = tf.constant(rng.normal(size=(9, num_actions)), tf.float32)

    @tf.function(jit_compile=jit_compile)
    def both() -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(persistent=True) as tape:
            mine, theirs = ours(observations)[0], keras(observations)
            losses = tf.reduce_sum(mine * weights), tf.reduce_sum(theirs * weights)
        return (
            (mine, theirs),
            tape.gradient(losses[0], ours.trainable_variables),
            tape.gradient(losses[1], keras.trainable_variables),
        )

    (mine, theirs), gradients, expected = both()
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted.numpy().T, rtol=1e-3, atol=1e-3)


def test_a_copy_has_variables_of_its_own() -> None:
    network = _network(2, [3])
    copied = network.copy(name="TargetQNetwork")
    copied.create_variables()
    network.trainable_variables[0].assign_add(tf.ones([3, 4]))
    assert not np.array_equal(network.trainable_variables[0], copied.trainable_variables[0])
