from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dqnkit.envs.observations import (
    InvalidObservationError,
    ObservationEncoder,
    UnsupportedSpaceError,
    array_specs,
    channels_first,
    has_certain_channels,
)
from dqnkit.envs.specs import ArraySpec, ObservationKind, ObservationSpec

DISCRETE, IMAGE, VECTOR = ObservationKind.DISCRETE, ObservationKind.IMAGE, ObservationKind.VECTOR
FLOATS = spaces.Box(-1, 1, (2,), np.float64)


def _encoder(space: Any) -> ObservationEncoder:
    return ObservationEncoder(ObservationSpec(array_specs(space)))


def _problem(space: Any, observation: Any, lead: tuple[int, ...] = ()) -> str:
    with pytest.raises(InvalidObservationError) as caught:
        _encoder(space).encode(observation, lead)
    return str(caught.value)


# -- Specs of spaces


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Discrete(4), ArraySpec(DISCRETE, (), "uint8", (), (4,), (0,))),
        (spaces.Discrete(300, start=-2), ArraySpec(DISCRETE, (), "uint16", (), (300,), (-2,))),
        (
            spaces.MultiDiscrete([3, 2], start=[0, 5]),
            ArraySpec(DISCRETE, (2,), "uint8", (), (3, 2), (0, 5)),
        ),
        (spaces.MultiBinary((2, 3)), ArraySpec(VECTOR, (2, 3), "bool", low=0, high=1)),
        (spaces.Box(0, 255, (6,), np.uint8), ArraySpec(VECTOR, (6,), "uint8", low=0, high=255)),
        (
            spaces.Box(-300, 300, (2,), np.int16),
            ArraySpec(VECTOR, (2,), "int16", low=-300, high=300),
        ),
        (spaces.Box(0, 9, (2,), np.int64), ArraySpec(VECTOR, (2,), "float32", low=0, high=9)),
        (
            spaces.Box(np.float32([0, -1]), np.float32([255, 1])),
            ArraySpec(VECTOR, (2,), "float32", low=(0.0, -1.0), high=(255.0, 1.0)),
        ),
        (spaces.Box(-1, 1, (5, 5)), ArraySpec(VECTOR, (5, 5), "float32", low=-1, high=1)),
        (spaces.Box(0, 255, (5, 5)), ArraySpec(IMAGE, (5, 5), "float32", low=0, high=255)),
        (spaces.Box(0, 1, (5, 5), np.uint8), ArraySpec(IMAGE, (5, 5), "uint8", low=0, high=1)),
        (
            spaces.Box(0, 1, (3, 8, 8)),
            ArraySpec(IMAGE, (3, 8, 8), "float32", low=0, high=1, channels_first=True),
        ),
    ],
    ids=str,
)
def test_each_space_has_its_array(space: Any, expected: ArraySpec) -> None:
    assert array_specs(space) == (expected,)


def test_nested_spaces_have_an_array_for_each_part() -> None:
    space = spaces.Dict(
        camera=spaces.Dict(left=spaces.Box(0, 255, (8, 8), np.uint8)),
        more=spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1, (0,)))),
        speed=spaces.Box(-math.inf, math.inf, ()),
    )
    arrays = array_specs(space)
    assert [array.path for array in arrays] == [("camera", "left"), ("more", 0), ("speed",)]
    assert [array.kind for array in arrays] == [IMAGE, DISCRETE, VECTOR]


@pytest.mark.parametrize(
    ("space", "path"),
    [
        (spaces.Text(4), ()),
        (spaces.OneOf((spaces.Discrete(2), FLOATS)), ()),
        (spaces.Sequence(FLOATS), ()),
        (spaces.Graph(FLOATS, None), ()),
        (spaces.Dict(a=FLOATS, mission=spaces.Text(4)), ("mission",)),
        (spaces.Tuple((FLOATS, spaces.Dict(b=spaces.Sequence(FLOATS)))), (1, "b")),
        (object(), ()),
    ],
)
def test_spaces_without_numbers_are_named_by_their_path(space: Any, path: tuple[Any, ...]) -> None:
    with pytest.raises(UnsupportedSpaceError) as caught:
        array_specs(space)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("shape", "is_first", "is_certain"),
    [
        ((84, 84), False, True),
        ((210, 160, 3), False, True),
        ((3, 210, 160), True, True),
        ((10, 10, 7), False, True),
        ((4, 84, 84), True, True),
        # The axis beside two equal ones, although it is not the shortest.
        ((12, 8, 8), True, False),
        ((8, 8, 12), False, False),
        ((96, 3, 3), True, False),
        # No axis stands out.
        ((8, 8, 8), False, False),
        ((3, 5, 3), False, False),
        ((9, 5, 7), False, False),
    ],
)
def test_channels_are_found_by_the_shape_of_an_image(
    shape: tuple[int, ...], is_first: bool, is_certain: bool
) -> None:
    assert channels_first(shape, "auto") is is_first
    assert has_certain_channels(shape) is is_certain
    assert channels_first(shape, "last") is False
    assert channels_first(shape, "first") is (len(shape) == 3)


# -- Encoding


@pytest.mark.parametrize(
    ("space", "observation", "expected"),
    [
        (spaces.Discrete(4, start=-1), -1, 0),
        (spaces.Discrete(4, start=2**40), 2**40 + 3, 3),
        (spaces.Discrete(4), np.array([2]), 2),
        (spaces.MultiDiscrete([3, 2], start=[0, 5]), [2, 6], [2, 1]),
        (spaces.MultiBinary(3), np.int8([0, 1, 1]), [False, True, True]),
        (spaces.Box(0, 255, (2,), np.uint8), np.int64([0, 255]), [0, 255]),
        (spaces.Box(0, 255, (2,), np.uint8), [1.0, 2.0], [1, 2]),
        (spaces.Box(-1, 1, (1,)), 0.5, [0.5]),
        (spaces.Box(-1, 1, ()), np.array([0.5]), 0.5),
        (spaces.Box(-1, 1, (2,)), (0, 1), [0.0, 1.0]),
    ],
)
def test_observations_are_stored_in_the_dtype_of_their_space(
    space: Any, observation: Any, expected: Any
) -> None:
    encoder = _encoder(space)
    frame = encoder.encode(observation)
    assert frame.dtype == encoder.frame_space.dtype
    assert frame.shape == encoder.frame_space.shape
    np.testing.assert_array_equal(frame, np.asarray(expected, frame.dtype))
    together = encoder.encode(np.stack([np.asarray(observation)] * 3), (3,))
    np.testing.assert_array_equal(together, np.stack([frame] * 3))


@pytest.mark.parametrize(
    ("space", "observation", "value", "allowed"),
    [
        (spaces.Discrete(4), 7, "7", "0 to 3"),
        (spaces.Discrete(4), -1, "-1", "0 to 3"),
        (spaces.Discrete(4), np.int64(256), "256", "0 to 3"),
        (spaces.Discrete(4, start=5), np.array(4), "4", "5 to 8"),
        (spaces.MultiDiscrete([3, 3]), np.array([3, 0]), "3", r"[0, 0] to [2, 2]"),
        (spaces.MultiBinary(2), np.int8([0, 2]), "2", "0 to 1"),
        (spaces.Box(0, 255, (2,), np.uint8), np.int64([0, 256]), "256", "0 to 255"),
        (spaces.Box(0, 255, (2,), np.uint8), np.float32([0, 0.5]), "0.5", "0 to 255"),
        (spaces.Box(0, 255, (2,), np.uint8), np.float32([0, np.nan]), "nan", "0 to 255"),
        (spaces.Box(0, 3, (2,), np.uint8), np.uint8([0, 4]), "4", "0 to 3"),
        (spaces.Box(0, 1, (2,), np.bool_), np.uint8([0, 2]), "2", "0 to 1"),
    ],
)
def test_integers_outside_their_space_are_refused(
    space: Any, observation: Any, value: str, allowed: str
) -> None:
    problem = _problem(space, observation)
    assert problem.startswith(f"gave an observation outside its space: it contains {value}, ")
    assert f"whole numbers from {allowed}" in problem
    nested = _problem(spaces.Dict(a=FLOATS, b=space), {"a": np.zeros(2), "b": observation})
    assert f"'b' contains {value}, " in nested
    batch = np.stack([np.asarray(observation)] * 2)
    assert f"it contains {value}, " in _problem(space, batch, (2,))


@pytest.mark.parametrize(
    ("space", "observation", "problem"),
    [
        (FLOATS, np.zeros(3), "wrong shape: it has shape (3,), and its space has (2,)"),
        (FLOATS, np.zeros((1, 2)), "wrong shape: it has shape (1, 2)"),
        (FLOATS, "ab", "wrong type: it is 'ab' of type str"),
        (FLOATS, None, "wrong type: it is None of type NoneType"),
        (FLOATS, [1.0, [2.0]], "wrong type: it is [1.0, [2.0]] of type list"),
        (FLOATS, {"a": 1}, "wrong type: it is {'a': 1} of type dict"),
        (spaces.Discrete(3), "1", "wrong type: it is '1' of type str"),
        (spaces.Discrete(3), [0, 1], "wrong shape"),
        (spaces.Dict(a=FLOATS, b=FLOATS), {"a": np.zeros(2)}, "without 'b', which its space has"),
        (spaces.Tuple((FLOATS, FLOATS)), (np.zeros(2),), "without '1'"),
        (spaces.Dict(a=FLOATS, b=FLOATS), np.zeros(4), "without 'a'"),
        (spaces.Dict(a=FLOATS), np.zeros(2), "without 'a'"),
    ],
)
def test_other_shapes_and_types_are_refused(space: Any, observation: Any, problem: str) -> None:
    assert problem in _problem(space, observation)


def test_several_arrays_become_a_record_of_bytes() -> None:
    space = spaces.Dict(
        bits=spaces.MultiBinary(3),
        image=spaces.Box(0, 255, (2, 2), np.uint8),
        speed=spaces.Box(-1, 1, (1,)),
        state=spaces.Discrete(300, start=1),
    )
    observation = {
        "bits": np.int8([1, 0, 1]),
        "image": np.uint8([[1, 2], [3, 4]]),
        "speed": np.float32([0.25]),
        "state": 300,
    }
    frame = _encoder(space).encode(observation)
    expected = bytes([1, 0, 1, 1, 2, 3, 4]) + np.float32(0.25).tobytes()
    expected += np.uint16(299).tobytes()
    assert frame.tobytes() == expected
    batch = {key: np.stack([value] * 5) for key, value in observation.items()}
    np.testing.assert_array_equal(_encoder(space).encode(batch, (5,)), np.stack([frame] * 5))


# -- Floats of many frames


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_found_in_their_row(value: float) -> None:
    encoder = _encoder(FLOATS)
    frames = encoder.encode([[0, 0], [0, value], [0, 0]], (3,))
    with pytest.raises(InvalidObservationError, match=f"not finite: it contains {value}") as caught:
        encoder.check_finite(frames)
    assert caught.value.row == 1
    nested = _encoder(spaces.Dict(a=spaces.Discrete(3), b=FLOATS))
    records = nested.encode({"a": [0, 1, 2], "b": [[0, 0], [0, value], [0, 0]]}, (3,))
    with pytest.raises(InvalidObservationError, match=f"'b' contains {value}") as caught:
        nested.check_finite(records)
    assert caught.value.row == 1


def test_values_beyond_float32_are_named_and_not_called_infinite() -> None:
    encoder = _encoder(spaces.Box(-np.inf, np.inf, (1,), np.float64))
    beyond = r"beyond float32: it contains 1e\+39, and float32 holds at most 3\.4e\+38"
    with pytest.raises(InvalidObservationError, match=beyond):
        encoder.encode(np.array([1e39]))
    with pytest.raises(InvalidObservationError, match=beyond) as caught:
        encoder.encode(np.array([[0.0], [1e39]]), (2,))
    assert caught.value.row == 1
    with pytest.raises(InvalidObservationError, match="not finite: it contains inf"):
        encoder.check_finite(encoder.encode(np.array([np.inf]))[None])


def test_floats_outside_their_bounds_are_found_in_their_row() -> None:
    encoder = _encoder(spaces.Box(np.float64([0.1, -np.inf]), np.float64([0.3, 5.0])))
    encoder.check_bounds(encoder.encode([[0.1, -1e30], [0.3, 5.0]], (2,)))  # rounded like bounds
    with pytest.raises(InvalidObservationError, match=r"contains 5\.5, .* numbers from -inf to 5"):
        encoder.check_bounds(encoder.encode([[0.2, 5.5]], (1,)))
    with pytest.raises(InvalidObservationError) as caught:
        encoder.check_bounds(encoder.encode([[0.2, 0], [0.4, 0]], (2,)))
    assert caught.value.row == 1
