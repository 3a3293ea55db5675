"""Observations of Gymnasium environments as frames: their specs, and their checks and encoding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from dqnkit._system.text import short_repr
from dqnkit.envs.precision import PrecisionWatch
from dqnkit.envs.specs import ArraySpec, ObservationKind, ObservationSpec

Path = tuple[str | int, ...]
Arrays = tuple[ArraySpec, ...]
Channels = Literal["auto", "first", "last"]


class UnsupportedSpaceError(ValueError):
    """A space, or a part of it, that has no representation as arrays of numbers.

    Attributes:
      path: Keys and indices that lead to the part.
      space: The part.
    """

    def __init__(self, path: Path, space: Any) -> None:
        super().__init__(path, space)
        self.path = path
        self.space = space


class InvalidObservationError(ValueError):
    """An observation that does not belong to its space; the message names value and space.

    Attributes:
      row: Index of the observation in a batch; None if it is not known.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


# -- From spaces to specs


def array_specs(space: Any, channels: Channels = "auto", path: Path = ()) -> Arrays:
    """Return the specs of the arrays of an observation space; empty arrays are left out.

    Args:
      space: Gymnasium space.
      channels: Axis of an image's channels (`env.channels`).
      path: Keys and indices that lead to the space.

    Raises:
      UnsupportedSpaceError: If a part is not a Box, Discrete, MultiDiscrete or MultiBinary.
    """
    if isinstance(space, spaces.Dict):
        return _nested(space.spaces.items(), channels, path)
    if isinstance(space, spaces.Tuple):
        return _nested(enumerate(space.spaces), channels, path)
    if isinstance(space, spaces.Discrete):
        return (_discrete((), [int(space.n)], [int(space.start)], path),)
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        return (_discrete(space.nvec.shape, counts, starts, path),) if counts else ()
    if isinstance(space, spaces.MultiBinary):
        return (ArraySpec(ObservationKind.VECTOR, space.shape, "bool", path, low=0, high=1),)
    if isinstance(space, spaces.Box) and space.dtype.kind in "biuf":
        return (_box(space, channels, path),) if math.prod(space.shape) else ()
    raise UnsupportedSpaceError(path, space)


def _nested(parts: Iterable[tuple[Any, Any]], channels: Channels, path: Path) -> Arrays:
    return tuple(
        array for key, part in parts for array in array_specs(part, channels, (*path, key))
    )


def _discrete(
    shape: tuple[int, ...], counts: list[int], starts: list[int], path: Path
) -> ArraySpec:
    dtype = np.min_scalar_type(max(counts) - 1).name
    return ArraySpec(
        ObservationKind.DISCRETE,
        shape,
        dtype,
        path,
        num_values=tuple(counts),
        first_values=tuple(starts),
    )


def _box(space: spaces.Box, channels: Channels, path: Path) -> ArraySpec:
    is_small = space.dtype.kind in "biu" and space.dtype.itemsize <= 2
    kind = ObservationKind.IMAGE if _is_image(space) else ObservationKind.VECTOR
    return ArraySpec(
        kind,
        space.shape,
        space.dtype.name if is_small else "float32",
        path,
        low=_bound(space.low),
        high=_bound(space.high),
        channels_first=kind is ObservationKind.IMAGE and channels_first(space.shape, channels),
    )


def _bound(values: np.ndarray) -> float | tuple[float, ...]:
    """Return the one value of all elements, or the value of each."""
    first = float(values.flat[0])
    if bool((values == first).all()):
        return first
    return tuple(float(value) for value in values.flat)


def _is_image(space: spaces.Box) -> bool:
    """Return whether a space has three axes, or two axes and pixels from 0 to 255."""
    if len(space.shape) != 2:
        return len(space.shape) == 3
    return space.dtype.name == "uint8" or bool((space.low == 0).all() and (space.high == 255).all())


def channels_first(shape: tuple[int, ...], channels: Channels) -> bool:
    """Return whether the first axis of an image holds its channels.

    If this is not given, the channels are the axis beside two equal ones, or else the shortest of
    the first and the last axis; the last one if these rules do not decide.
    """
    if len(shape) != 3:
        return False
    if channels != "auto":
        return channels == "first"
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return middle == last
    return first < min(middle, last)


def has_certain_channels(shape: tuple[int, ...]) -> bool:
    """Return whether the shape of an image leaves no doubt about the axis of its channels."""
    if len(shape) != 3:
        return True
    first, middle, last = shape
    return first < min(middle, last) or last < min(first, middle)


# -- From observations to frames


class ObservationEncoder:
    """Checks observations and converts them to frames (`ObservationSpec`)."""

    def __init__(self, spec: ObservationSpec) -> None:
        """Prepare the checks.

        Args:
          spec: Spec of the observations; stacks do not matter here.
        """
        self._spec = spec
        self._is_record = spec.is_record
        self._fields = [f"array {index}" for index in range(len(spec.arrays))]
        self._record = np.dtype(
            [
                (field, array.dtype, array.shape)
                for field, array in zip(self._fields, spec.arrays, strict=True)
            ]
        )
        self._arrays = [_ArrayEncoder(array) for array in spec.arrays]
        self._floats = [index for index, each in enumerate(self._arrays) if each.is_float]
        self._only: _ArrayEncoder | None = None
        """The encoder of an observation that is one array and nothing else."""
        if not spec.is_record and not spec.arrays[0].path:
            self._only = self._arrays[0]

    @property
    def frame_space(self) -> spaces.Box:
        """Gymnasium space of the frames."""
        dtype = np.dtype(self._spec.dtype)
        low, high = _range(dtype)
        return spaces.Box(low, high, self._spec.frame_shape, dtype.type)

    def encode(self, observation: Any, lead: tuple[int, ...] = ()) -> np.ndarray:
        """Return the frame of an observation, or the frames of a batch.

        Integers are checked against their spaces. Floats are not: `check_finite` and
        `check_bounds` take many frames at once.

        Args:
          observation: Observation as the environment gives it.
          lead: Leading axes of all arrays: () for one observation, or (N,).

        Returns:
          Frames [*lead, *frame_shape].

        Raises:
          InvalidObservationError: If structure, shape, type or value do not fit the space.
        """
        if self._only is not None:
            return self._only.encode(observation, lead)
        if not self._is_record:
            array = self._arrays[0]
            return array.encode(_look_up(observation, array.spec.path), lead)
        records = np.empty(math.prod(lead), self._record)
        for field, array in zip(self._fields, self._arrays, strict=True):
            values = array.encode(_look_up(observation, array.spec.path), lead)
            records[field] = values.reshape(-1, *array.spec.shape)
        frames: np.ndarray = records.view(np.uint8).reshape(*lead, -1)
        return frames

    def are_plain(self, frames: np.ndarray) -> bool:
        """Return whether all floats of frames [N, *frame_shape] are finite and in their spaces."""
        if self._only is not None:
            return not self._only.is_float or self._only.are_plain(frames)
        return all(
            self._arrays[index].are_plain(self._values(frames, index)) for index in self._floats
        )

    def check_finite(self, frames: np.ndarray) -> None:
        """Check that all floats of frames [N, *frame_shape] are finite.

        Raises:
          InvalidObservationError: If one is not.
        """
        # A single update would spread a NaN through the whole network.
        for index in self._floats:
            values = self._values(frames, index)
            if not np.isfinite(values).all():
                found = np.argwhere(~np.isfinite(values))[0]
                raise InvalidObservationError(
                    f"gave an observation that is not finite: {_called(self._spec.arrays[index])} "
                    f"contains {values[tuple(found)]}",
                    int(found[0]),
                )

    def check_bounds(self, frames: np.ndarray) -> None:
        """Check that all floats of frames [N, *frame_shape] lie within their spaces.

        Raises:
          InvalidObservationError: If one does not.
        """
        for index in self._floats:
            self._arrays[index].check_bounds(self._values(frames, index))

    def precision_problem(self) -> str | None:
        """Return a clause on observations that float32 cannot tell apart; None if none is known."""
        for array in self._arrays:
            if array.precision.problem is not None:
                within = f" in {array.spec.name!r}" if array.spec.path else ""
                return f"gave observations with {array.precision.problem}{within}"
        return None

    def magnitudes(self, frames: np.ndarray) -> dict[str, float]:
        """Return the greatest magnitude in frames [N, *frame_shape], by the name of each array.

        Only arrays of floats that no scale of the network makes smaller are looked at.
        """
        return {
            self._spec.arrays[index].name: float(np.abs(self._values(frames, index)).max())
            for index in self._floats
            if np.all(np.equal(self._spec.arrays[index].scale, 1.0))
        }

    def _values(self, frames: np.ndarray, index: int) -> np.ndarray:
        """Return one array of all frames, [N, *shape]."""
        if not self._is_record:
            return frames
        values: np.ndarray = np.ascontiguousarray(frames).view(self._record)[self._fields[index]]
        return values[:, 0]


class _ArrayEncoder:
    """Checks and encodes one array of an observation."""

    def __init__(self, spec: ArraySpec) -> None:
        self.spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._shape = spec.shape
        self.is_float = self._dtype.kind == "f"
        self.precision = PrecisionWatch()
        is_discrete = spec.kind is ObservationKind.DISCRETE
        # Bounds round as values do.
        bound_dtype = self._dtype if self.is_float else None
        if is_discrete:
            first, count = np.array(spec.first_values), np.array(spec.num_values)
            self._low, self._high = (
                first.reshape(spec.shape),
                (first + count - 1).reshape(spec.shape),
            )
        else:
            self._low = _spread(spec.low, spec.shape, bound_dtype)
            self._high = _spread(spec.high, spec.shape, bound_dtype)
        self._offset = self._low if is_discrete else None
        self._is_scalar = is_discrete and spec.shape == ()
        low, high = _range(self._dtype)
        covers = not is_discrete and bool((self._low <= low).all() and (self._high >= high).all())
        self._takes_all = self.is_float or covers
        """True if every value of the stored dtype needs no further check here."""
        largest = np.finfo(np.float32).max
        self._plain_low, self._plain_high = (
            np.maximum(self._low, -largest),
            np.minimum(self._high, largest),
        )
        self._has_bounds = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())

    def encode(self, value: Any, lead: tuple[int, ...]) -> np.ndarray:
        """Return the array as it is stored, [*lead, *shape]."""
        if type(value) is np.ndarray:
            shape = (*lead, *self._shape) if lead else self._shape
            if self._takes_all and value.shape == shape and value.dtype == self._dtype:
                return value
        elif self._is_scalar and not lead and type(value) in {int, np.int64}:
            if not self._low <= value <= self._high:
                raise self._outside(value)
            return np.array(value - self._offset, self._dtype)
        numbers = self._numbers(value, lead)
        if self.is_float:
            return self._as_float32(numbers, len(lead))
        inside = (numbers >= self._low) & (numbers <= self._high)
        if numbers.dtype.kind == "f":
            inside &= numbers == np.floor(numbers)
        if not inside.all():
            found = np.argwhere(~inside)[0]
            raise self._outside(numbers[tuple(found)], int(found[0]) if lead else None)
        if self._offset is not None:
            numbers = numbers - self._offset
        return numbers.astype(self._dtype)

    def are_plain(self, values: np.ndarray) -> bool:
        """Return whether all of some values [N, *shape] are finite and within the bounds."""
        # Comparisons with NaN are false.
        inside = values >= self._plain_low
        inside &= values <= self._plain_high
        return bool(np.count_nonzero(inside) == inside.size)

    def _as_float32(self, numbers: np.ndarray, num_axes: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = numbers.astype(np.float32)
        if numbers.dtype == np.float32:
            return stored
        is_finite = np.isfinite(stored)
        if not is_finite.all() and np.isfinite(numbers[~is_finite]).any():
            found = np.argwhere(~is_finite & np.isfinite(numbers))[0]
            raise InvalidObservationError(
                f"gave an observation beyond float32: {_called(self.spec)} contains "
                f"{numbers[tuple(found)]:.6g}, and float32 holds at most "
                f"{np.finfo(np.float32).max:.3g}",
                int(found[0]) if num_axes else None,
            )
        if not self.precision.is_over:
            self.precision.add(numbers.reshape(-1, *self.spec.shape), stored)
        return stored

    def check_bounds(self, values: np.ndarray) -> None:
        """Check some values [N, *shape].

        Raises:
          InvalidObservationError: If one lies outside the bounds.
        """
        if not self._has_bounds:
            return
        is_outside = (values < self._low) | (values > self._high)
        if is_outside.any():
            found = np.argwhere(is_outside)[0]
            raise self._outside(values[tuple(found)], int(found[0]))

    def _numbers(self, value: Any, lead: tuple[int, ...]) -> np.ndarray:
        """Return a value as an array of numbers with the right shape."""
        name, shape = _called(self.spec), (*lead, *self.spec.shape)
        try:
            numbers = np.asarray(value)
        except ValueError:  # nested lists of different lengths
            numbers = np.asarray(None)
        if numbers.dtype.kind not in "biuf":
            raise InvalidObservationError(
                f"gave an observation of the wrong type: {name} is {short_repr(value)} of type "
                f"{type(value).__name__}, which is not an array of numbers"
            )
        if numbers.shape == shape:
            return numbers
        if self.spec.size == 1 and numbers.size == math.prod(lead):
            return numbers.reshape(shape)
        raise InvalidObservationError(
            f"gave an observation of the wrong shape: {name} has shape {numbers.shape}, and its "
            f"space has {shape}"
        )

    def _outside(self, value: Any, row: int | None = None) -> InvalidObservationError:
        return InvalidObservationError(
            f"gave an observation outside its space: {_called(self.spec)} contains {value}, and "
            f"its space has {self._describe_values()}",
            row,
        )

    def _describe_values(self) -> str:
        spec = self.spec
        if spec.kind is not ObservationKind.DISCRETE:
            kind = "numbers" if self.is_float else "whole numbers"
            return f"{kind} from {self._low.min():g} to {self._high.max():g}"
        if self._low.size == 1:
            return f"the whole numbers from {self._low.item()} to {self._high.item()}"
        return f"the whole numbers from {self._low.tolist()} to {self._high.tolist()}"


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the greatest value of a dtype."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind == "f":
        return -math.inf, math.inf
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _spread(bound: float | tuple[float, ...], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a bound as an array that compares with values of a shape."""
    values = np.array(bound, dtype)
    return values if values.ndim == 0 else values.reshape(shape)


def _look_up(observation: Any, path: Path) -> Any:
    for depth, key in enumerate(path, 1):
        try:
            observation = observation[key]
        except (LookupError, TypeError):
            raise InvalidObservationError(
                f"gave an observation without {'.'.join(map(str, path[:depth]))!r}, which its "
                f"space has: {short_repr(observation)}"
            ) from None
    return observation


def _called(spec: ArraySpec) -> str:
    return repr(spec.name) if spec.path else "it"
