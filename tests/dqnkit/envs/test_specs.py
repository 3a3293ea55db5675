from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from dqnkit.envs.specs import (
    ArraySpec,
    EnvSpec,
    ObservationSpec,
    convolution_shapes,
)
from dqnkit.errors import ConfigError
from tests.specs import array_spec, observation_spec


def _image(*shape: int, **fields: Any) -> ArraySpec:
    return array_spec("image", shape, "uint8", **fields)


@pytest.mark.parametrize(
    ("frame_shape", "stack", "shape"),
    [
        ((), 1, ()),
        ((), 4, (4,)),
        ((3,), 1, (3,)),
        ((3,), 4, (4, 3)),
        ((84, 84), 4, (4, 84, 84)),
        ((10, 10, 6), 2, (2, 10, 10, 6)),
    ],
)
def test_stacked_frames_stand_along_a_first_axis(
    frame_shape: tuple[int, ...], stack: int, shape: tuple[int, ...]
) -> None:
    assert observation_spec("vector", frame_shape, frame_stack=stack).shape == shape


def test_several_arrays_are_a_record_of_their_bytes() -> None:
    arrays = (_image(84, 84), array_spec("vector", (2,)), array_spec("discrete", (), num_values=9))
    spec = ObservationSpec(arrays, frame_stack=3)
    assert (spec.frame_shape, spec.shape, spec.dtype) == ((7056 + 8 + 1,), (3, 7065), "uint8")
    assert spec.num_features == 3 * (7056 + 2 + 9)
    assert spec.images == arrays[:1]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([()], ("observations",)),
        ([("image",), ("speed",)], ("image", "speed")),
        ([("a", "b"), ("a", 1)], ("a_b", "a_1")),
        ([("a b",), ("a.b",), ("a_b",)], ("a_b", "a_b_", "a_b__")),
        ([(0,), (1,)], ("array_0", "array_1")),
        ([("A",), ("a",), ("self",), ("global",)], ("A", "a_", "array_self", "array_global")),
        ([("höhe",), ("_x",), ("2d",)], ("h_he", "array__x", "array_2d")),
    ],
)
def test_inputs_of_a_saved_policy_have_unique_names(
    paths: list[tuple[str | int, ...]], names: tuple[str, ...]
) -> None:
    arrays = tuple(array_spec("vector", (2,), path=path) for path in paths)
    assert ObservationSpec(arrays).input_names == names


@pytest.mark.parametrize(
    ("shape", "is_first", "image_shape"),
    [
        ((84, 84), False, (84, 84, 1)),
        ((10, 10, 6), False, (10, 10, 6)),
        ((3, 64, 96), True, (64, 96, 3)),
    ],
)
def test_the_shape_of_an_image_follows_its_channels(
    shape: tuple[int, ...], is_first: bool, image_shape: tuple[int, int, int]
) -> None:
    assert _image(*shape, channels_first=is_first).image_shape == image_shape


@pytest.mark.parametrize(
    ("kind", "dtype", "low", "high", "scale"),
    [
        ("image", "uint8", 0, 255, 1 / 255),
        ("image", "float32", 0, 255, 1 / 255),
        ("image", "uint8", 0, 15, 1 / 15),
        ("image", "uint16", 0, 65_535, 1 / 65_535),
        ("image", "uint8", 1, 255, 1.0),
        ("image", "bool", 0, 1, 1.0),
        ("image", "float32", 0, math.inf, 1.0),
        ("image", "float32", -math.inf, math.inf, 1.0),
        ("vector", "uint8", 0, 255, 1 / 255),
        ("vector", "float32", 0, 255, 1 / 255),
        ("vector", "float32", 0, 100, 1.0),
        ("vector", "uint8", 0, 3, 1.0),
    ],
)
def test_pixels_are_scaled_to_the_range_from_0_to_1(
    kind: str, dtype: str, low: float, high: float, scale: float
) -> None:
    assert array_spec(kind, (4, 4), dtype, low=low, high=high).scale == scale


def test_elements_with_bounds_of_their_own_are_scaled_one_by_one() -> None:
    spec = array_spec("vector", (3,), low=(0.0, 0.0, -1.0), high=(255.0, 1.0, 255.0))
    np.testing.assert_array_equal(spec.scale, [1 / 255, 1.0, 1.0])


@pytest.mark.parametrize(
    ("spec", "num_features"),
    [
        (observation_spec("vector", (4,)), 4),
        (observation_spec("vector", (4,), frame_stack=3), 12),
        (observation_spec("vector", (2, 3)), 6),
        (observation_spec("discrete", (), num_values=16), 16),
        (observation_spec("discrete", (), frame_stack=3, num_values=16), 48),
        (observation_spec("discrete", (2,), num_values=3), 6),
        (observation_spec("image", (10, 10, 6), "uint8"), 600),
    ],
)
def test_a_dense_network_has_an_input_for_each_number_or_each_discrete_value(
    spec: ObservationSpec, num_features: int
) -> None:
    assert spec.num_features == num_features


def test_convolutions_shrink_an_image_as_in_the_nature_network() -> None:
    nature = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    shapes = convolution_shapes(nature, _image(84, 84), 4)
    assert shapes == [(84, 84, 4), (20, 20, 32), (9, 9, 64), (7, 7, 64)]


def test_rows_and_columns_that_a_stride_leaves_over_are_dropped() -> None:
    shapes = convolution_shapes(((8, 3, 2),), _image(10, 7, 1))
    assert shapes[1] == ((10 - 3) // 2 + 1, (7 - 3) // 2 + 1, 8) == (4, 3, 8)


def test_without_convolutions_only_the_image_remains() -> None:
    assert convolution_shapes((), _image(3, 10, 12)) == [(10, 12, 3)]


def test_a_kernel_as_large_as_the_image_fits_and_a_larger_one_is_an_error() -> None:
    image = _image(10, 8, 3)
    assert convolution_shapes(((4, 8, 1),), image)[-1] == (3, 1, 4)
    with pytest.raises(ConfigError) as caught:
        convolution_shapes(((4, 9, 1),), image)
    message = str(caught.value)
    assert message.startswith("network.conv_layer_params=[[4, 9, 1]]: ")
    assert "9 by 9 does not fit into its input of 10 by 8" in message
    assert "(10, 8, 3)" in message


def test_the_layer_that_does_not_fit_is_named_by_its_own_input() -> None:
    with pytest.raises(ConfigError, match="kernel of 3 by 3 does not fit into its input of 2 by 2"):
        convolution_shapes(((8, 5, 4), (8, 3, 1)), _image(10, 10))


def test_specs_are_values() -> None:
    spec = EnvSpec("Thing-v0", ObservationSpec((_image(84, 84),)), num_actions=4)
    assert spec == EnvSpec(
        "Thing-v0", ObservationSpec((_image(84, 84),)), num_actions=4, first_action=0
    )
    assert spec != dataclasses.replace(spec, first_action=1)
    assert len({spec, dataclasses.replace(spec)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.num_actions = 3  # type: ignore[misc]
