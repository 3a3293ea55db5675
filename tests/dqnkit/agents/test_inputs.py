"""Frames become the inputs that a naive reading of the space gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dqnkit._system.tensorflow import tf
from dqnkit.agents import inputs
from dqnkit.envs.observations import ObservationEncoder, array_specs
from dqnkit.envs.specs import ObservationSpec

SPACE = spaces.Dict(
    bits=spaces.MultiBinary(3),
    counts=spaces.MultiDiscrete([3, 2, 4], start=[0, -1, 7]),
    far=spaces.Box(-1000, 1000, (2,), np.int16),
    image=spaces.Box(0, 255, (6, 5), np.uint8),
    planes=spaces.Box(0, 255, (2, 6, 5)),
    signed=spaces.Box(-128, 127, (2,), np.int8),
    speed=spaces.Box(np.float32([0, -1]), np.float32([255, 1])),
    state=spaces.Discrete(300, start=-5),
    wide=spaces.Discrete(70_000),
)


def _one_hot(index: int, count: int) -> list[float]:
    return [float(index == value) for value in range(count)]


def _expected(observation: dict[str, Any]) -> np.ndarray:
    """Return the features of an observation without images, in the order of the keys."""
    first, second, third = observation["counts"]
    return np.concatenate(
        [
            observation["bits"],
            [*_one_hot(first, 3), *_one_hot(second + 1, 2), *_one_hot(third - 7, 4)],
            observation["far"],
            observation["image"].ravel() / 255,
            observation["planes"].ravel() / 255,
            observation["signed"],
            observation["speed"] * [1 / 255, 1],
            _one_hot(observation["state"] + 5, 300),
            _one_hot(observation["wide"], 70_000),
        ]
    )


@pytest.mark.parametrize("jit_compile", [None, False, True], ids=["eager", "graph", "xla"])
@pytest.mark.parametrize("as_floats", [False, True])
def test_features_are_those_of_each_array_by_its_own_space(
    jit_compile: bool | None, as_floats: bool
) -> None:
    SPACE.seed(0)
    spec = ObservationSpec(array_specs(SPACE))
    encoder = ObservationEncoder(spec)
    observations = [SPACE.sample() for _ in range(4)]
    frames = tf.constant(np.stack([encoder.encode(each) for each in observations]))
    if as_floats:  # as TF-Agents passes them on
        frames = tf.cast(frames, tf.float32)

    def features(frames: tf.Tensor) -> tf.Tensor:
        arrays = inputs.split_frames(frames, spec)
        parts = [inputs.features(v, a) for v, a in zip(arrays, spec.arrays, strict=True)]
        return tf.concat(parts, axis=1)

    if jit_compile is not None:
        features = tf.function(features, jit_compile=jit_compile)
    np.testing.assert_allclose(
        features(frames), np.stack([_expected(each) for each in observations]), rtol=1e-6
    )


@pytest.mark.parametrize("stack", [1, 3])
def test_stored_values_and_those_of_the_environment_convert_into_each_other(stack: int) -> None:
    SPACE.seed(1)
    spec = ObservationSpec(array_specs(SPACE), stack)
    encoder = ObservationEncoder(spec)
    observations = [[SPACE.sample() for _ in range(stack)] for _ in range(4)]
    frames = np.stack([[encoder.encode(each) for each in stacked] for stacked in observations])
    arrays = inputs.split_frames(tf.constant(frames.reshape(4, *spec.shape)), spec)
    for values, array in zip(arrays, spec.arrays, strict=True):
        (key,) = array.path
        given = np.array([[each[key] for each in stacked] for stacked in observations])
        if stack == 1:
            given = given[:, 0]
        back = inputs.to_environment(values, array, spec)
        assert back.dtype.name == array.env_dtype
        np.testing.assert_array_equal(back, given)
        again = inputs.from_environment(back, array, stack)
        np.testing.assert_array_equal(tf.cast(again, tf.float32), tf.cast(values, tf.float32))


@pytest.mark.parametrize("key", ["image", "planes"])
@pytest.mark.parametrize("stack", [1, 3])
def test_images_have_their_channels_last_and_frames_as_channels(key: str, stack: int) -> None:
    space = SPACE[key]
    (array,) = array_specs(space)
    space.seed(0)
    frames = np.stack([[space.sample() for _ in range(stack)] for _ in range(2)])
    expected = frames.reshape(2, -1, 6, 5).transpose(0, 2, 3, 1) / 255
    np.testing.assert_allclose(inputs.image(tf.constant(frames), array), expected, rtol=1e-6)
