from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from dqnkit.envs.specs import EnvSpec, ObservationKind, ObservationSpec, convolution_shapes
from dqnkit.errors import ConfigError


def _image(*frame_shape: int, **fields: Any) -> ObservationSpec:
    return ObservationSpec(ObservationKind.IMAGE, frame_shape, "uint8", **fields)


@pytest.mark.parametrize(
    ("frame_shape", "stack", "shape", "size"),
    [
        ((), 1, (), 1),
        ((), 4, (4,), 4),
        ((3,), 1, (3,), 3),
        ((3,), 4, (4, 3), 12),
        ((84, 84), 4, (4, 84, 84), 4 * 84 * 84),
        ((10, 10, 6), 2, (2, 10, 10, 6), 1_200),
    ],
)
def test_stacked_frames_stand_along_a_first_axis(
    frame_shape: tuple[int, ...], stack: int, shape: tuple[int, ...], size: int
) -> None:
    spec = ObservationSpec(ObservationKind.VECTOR, frame_shape, "float32", frame_stack=stack)
    assert (spec.shape, spec.size) == (shape, size)


@pytest.mark.parametrize(
    ("frame_shape", "channels_first", "image_shape"),
    [
        ((84, 84), False, (84, 84, 1)),
        ((10, 10, 6), False, (10, 10, 6)),
        ((3, 64, 96), True, (64, 96, 3)),
        ((1, 2, 2), True, (2, 2, 1)),
        # As small as one of the others: the last axis is the usual place.
        ((3, 3, 96), False, (3, 3, 96)),
        ((96, 3, 3), False, (96, 3, 3)),
        ((4, 4, 4), False, (4, 4, 4)),
    ],
)
def test_channels_are_the_first_axis_if_it_is_the_shortest(
    frame_shape: tuple[int, ...], channels_first: bool, image_shape: tuple[int, int, int]
) -> None:
    spec = _image(*frame_shape)
    assert spec.channels_first is channels_first
    assert spec.image_shape == image_shape


@pytest.mark.parametrize(
    ("frame_shape", "image_shape"),
    [((84, 84), (84, 84, 4)), ((10, 12, 3), (10, 12, 12)), ((3, 10, 12), (10, 12, 12))],
)
def test_stacked_frames_of_an_image_are_channels(
    frame_shape: tuple[int, ...], image_shape: tuple[int, int, int]
) -> None:
    assert _image(*frame_shape, frame_stack=4).image_shape == image_shape


@pytest.mark.parametrize(
    ("dtype", "low", "high", "scale"),
    [
        ("uint8", 0, 255, 1 / 255),
        ("uint8", 0, 1, 1.0),
        ("uint8", 1, 255, 1.0),
        ("int8", 0, 127, 1.0),
        ("float32", 0, 255, 1.0),
        ("bool", 0, 1, 1.0),
        ("float32", -math.inf, math.inf, 1.0),
    ],
)
def test_only_bytes_of_the_full_range_are_scaled(
    dtype: str, low: float, high: float, scale: float
) -> None:
    assert ObservationSpec(ObservationKind.IMAGE, (4, 4), dtype, low=low, high=high).scale == scale


@pytest.mark.parametrize(
    ("spec", "num_features"),
    [
        (ObservationSpec(ObservationKind.VECTOR, (4,), "float32"), 4),
        (ObservationSpec(ObservationKind.VECTOR, (4,), "float32", frame_stack=3), 12),
        (ObservationSpec(ObservationKind.VECTOR, (2, 3), "float32"), 6),
        (ObservationSpec(ObservationKind.DISCRETE, (), "int64", num_values=16), 16),
        (ObservationSpec(ObservationKind.DISCRETE, (), "int64", frame_stack=3, num_values=16), 48),
        (_image(10, 10, 6), 600),
    ],
)
def test_a_dense_network_has_an_input_for_each_number_or_each_discrete_value(
    spec: ObservationSpec, num_features: int
) -> None:
    assert spec.num_features == num_features


def test_convolutions_shrink_an_image_as_in_the_nature_network() -> None:
    nature = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    shapes = convolution_shapes(nature, _image(84, 84, frame_stack=4))
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
    spec = EnvSpec("Thing-v0", _image(84, 84), num_actions=4)
    assert spec == EnvSpec("Thing-v0", _image(84, 84), num_actions=4, first_action=0)
    assert spec != dataclasses.replace(spec, first_action=1)
    assert len({spec, dataclasses.replace(spec)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.num_actions = 3  # type: ignore[misc]
