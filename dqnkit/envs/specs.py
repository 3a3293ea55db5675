"""Specs of observations and actions, shared by environments, replays and networks."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dqnkit.errors import ConfigError


class ObservationKind(StrEnum):
    """Kind of an array of an observation, which determines how a network encodes it."""

    VECTOR = "vector"
    """Array of numbers, flattened if it has several axes."""
    DISCRETE = "discrete"
    """Elements with finitely many values each, encoded as one-hot."""
    IMAGE = "image"
    """Array of height and width, optionally with channels as its first or last axis."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of an observation, as the replay stores it and the network reads it."""

    kind: ObservationKind
    shape: tuple[int, ...]
    """Shape of the array that one step gives; () if it is a single number."""
    dtype: str
    """NumPy's name of the dtype: the smallest unsigned integer if discrete, an integer of one or
    two bytes or bool if the environment uses it, else float32."""
    path: tuple[str | int, ...] = ()
    """Keys and indices that lead to the array in an observation of nested spaces."""
    num_values: tuple[int, ...] = ()
    """Number of values of each element, if discrete."""
    first_values: tuple[int, ...] = ()
    """Least value of each element in the environment, if discrete; stored values count from 0."""
    low: float | tuple[float, ...] = -math.inf
    """Lower bound of all elements, or of each."""
    high: float | tuple[float, ...] = math.inf
    """Upper bound of all elements, or of each."""
    channels_first: bool = False
    """True if the first of an image's three axes holds its channels."""

    @property
    def name(self) -> str:
        """The path as one word, such as `camera.left`; empty for an observation of one array."""
        return ".".join(map(str, self.path))

    @property
    def env_dtype(self) -> str:
        """NumPy's name of the dtype that a saved policy takes: int64 if discrete, else `dtype`."""
        return "int64" if self.kind is ObservationKind.DISCRETE else self.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Number of bytes of the stored array."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def num_features(self) -> int:
        """Width of the array as the flat input of a dense network."""
        return sum(self.num_values) or self.size

    @property
    def scale(self) -> float | np.ndarray:
        """Factors applied to the inputs of a network: a scalar, or an array [*shape].

        They are 1/255 where the bounds are 0 and 255. Images between 0 and any other finite bound
        above 1 are scaled to the range from 0 to 1 as well. All other factors are 1.
        """
        low, high = np.asarray(self.low), np.asarray(self.high)
        if self.kind is ObservationKind.IMAGE:
            scaled = (low == 0) & (high > 1) & np.isfinite(high)
        else:
            scaled = (low == 0) & (high == 255)
        factors = np.divide(1.0, high, out=np.ones(scaled.shape), where=scaled)
        return float(factors) if factors.ndim == 0 else factors.reshape(self.shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.shape if len(self.shape) == 3 else (*self.shape, 1)
        if self.channels_first:
            channels, height, width = height, width, channels
        return height, width, channels


@dataclass(frozen=True)
class ObservationSpec:
    """The arrays of an observation, and the frames in which a replay stores them.

    The frame of an observation of one array is that array. The frame of several arrays is a record
    of their bytes, one after another, so that each keeps its own dtype.
    """

    arrays: tuple[ArraySpec, ...]
    frame_stack: int = 1
    """Number of consecutive frames in an observation, the newest last."""

    @property
    def is_record(self) -> bool:
        """True if a frame is a record of bytes."""
        return len(self.arrays) > 1

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of the frame that one step gives."""
        if self.is_record:
            return (sum(array.num_bytes for array in self.arrays),)
        return self.arrays[0].shape

    @property
    def dtype(self) -> str:
        """NumPy's name of the dtype of a frame."""
        return "uint8" if self.is_record else self.arrays[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of stacked frames: `frame_shape`, preceded by `frame_stack` if that is not 1."""
        return self.stacked(self.frame_shape)

    @property
    def num_features(self) -> int:
        """Width of the flat input of a dense network."""
        return self.frame_stack * sum(array.num_features for array in self.arrays)

    @property
    def images(self) -> tuple[ArraySpec, ...]:
        """The arrays that are images."""
        return tuple(array for array in self.arrays if array.kind is ObservationKind.IMAGE)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arrays as inputs of a saved policy; `observations` if there is only one.

        They are identifiers, and differ in more than upper and lower case, as TensorFlow demands.
        """
        if not self.is_record:
            return ("observations",)
        names: list[str] = []
        for array in self.arrays:
            name = re.sub(r"[^0-9A-Za-z_]", "_", array.name)
            if not name[:1].isalpha() or keyword.iskeyword(name) or name == "self":
                name = f"array_{name}"
            while name.lower() in {each.lower() for each in names}:
                name += "_"
            names.append(name)
        return tuple(names)

    def stacked(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a stack of arrays of one shape."""
        return shape if self.frame_stack == 1 else (self.frame_stack, *shape)

    def describe(self) -> str:
        """Return the shapes and dtypes of the arrays, for a message."""
        texts = (
            f"{array.name}{': ' if array.path else ''}{self.stacked(array.shape)} {array.dtype}"
            for array in self.arrays
        )
        return ", ".join(texts)


@dataclass(frozen=True)
class EnvSpec:
    """Observations and actions of an environment."""

    id: str
    observation: ObservationSpec
    num_actions: int
    first_action: int = 0
    """Number that the environment gives to the first action; networks count from 0."""


Convolutions = tuple[tuple[int, int, int], ...]
"""Filters, kernel size and stride of each convolution."""


def convolution_shapes(
    convolutions: Convolutions, image: ArraySpec, frame_stack: int = 1
) -> list[tuple[int, int, int]]:
    """Return the shapes of an image and of each convolution's output, without padding.

    Args:
      convolutions: Filters, kernel size and stride of each convolution.
      image: Spec of the image.
      frame_stack: Number of images, which are stacked as channels.

    Returns:
      Height, width and channels, first of the image, then of each output.

    Raises:
      ConfigError: If a kernel is larger than its input.
    """
    height, width, channels = image.image_shape
    shapes = [(height, width, channels * frame_stack)]
    for filters, kernel, stride in convolutions:
        height, width, _ = shapes[-1]
        if min(height, width) < kernel:
            name = f" {image.name!r}" if image.path else ""
            raise ConfigError(
                f"network.conv_layer_params={[list(x) for x in convolutions]}: a kernel of "
                f"{kernel} by {kernel} does not fit into its input of {height} by {width}, given "
                f"images{name} of shape {image.shape}; choose smaller kernels or strides, "
                "such as [[16, 3, 1]], or [] for dense layers only"
            )
        shapes.append(((height - kernel) // stride + 1, (width - kernel) // stride + 1, filters))
    return shapes


def all_fit(convolutions: Convolutions, images: Iterable[ArraySpec]) -> bool:
    """Return whether convolutions fit into every one of some images."""
    try:
        for image in images:
            convolution_shapes(convolutions, image)
    except ConfigError:
        return False
    return True
