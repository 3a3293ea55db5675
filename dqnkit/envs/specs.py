"""Specs of observations and actions, shared by environments, replays and networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dqnkit.errors import ConfigError


class ObservationKind(StrEnum):
    """ObservationKind of an observation, which determines how a network encodes it."""

    VECTOR = "vector"
    """Array of numbers, flattened if it has several axes."""
    DISCRETE = "discrete"
    """One of finitely many values, encoded as one-hot."""
    IMAGE = "image"
    """Array of height and width, optionally with channels as its first or last axis."""


@dataclass(frozen=True)
class ObservationSpec:
    """Shape, dtype and bounds of observations, which are Gymnasium's cast to `dtype`."""

    kind: ObservationKind
    frame_shape: tuple[int, ...]
    """Shape of the frame that one step gives; () if discrete."""
    dtype: str
    """NumPy's name of the dtype: int64 if discrete; uint8, int8 or bool if the environment uses
    it; else float32."""
    frame_stack: int = 1
    """Number of consecutive frames in an observation, the newest last."""
    num_values: int = 0
    """Number of values of a discrete observation."""
    first_value: int = 0
    """Least value of a discrete observation."""
    low: float = -math.inf
    """Lower bound of all numbers of an observation."""
    high: float = math.inf
    """Upper bound of all numbers of an observation."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an observation: `frame_shape`, preceded by `frame_stack` if that is not 1."""
        stack = () if self.frame_stack == 1 else (self.frame_stack,)
        return (*stack, *self.frame_shape)

    @property
    def size(self) -> int:
        """Number of values in an observation."""
        return math.prod(self.shape)

    @property
    def scale(self) -> float:
        """Factor applied to the inputs of a network: 1/255 for bytes from 0 to 255, else 1."""
        return 1.0 / 255.0 if (self.dtype, self.low, self.high) == ("uint8", 0, 255) else 1.0

    @property
    def num_features(self) -> int:
        """Width of the flat input of a dense network."""
        return self.size * max(1, self.num_values)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image, stacked frames as channels."""
        frame = self.frame_shape if len(self.frame_shape) == 3 else (*self.frame_shape, 1)
        height, width, channels = frame
        if self.channels_first:
            channels, height, width = frame
        return height, width, channels * self.frame_stack

    @property
    def channels_first(self) -> bool:
        """True if the first of three axes is shorter than both others: it holds the channels."""
        return len(self.frame_shape) == 3 and self.frame_shape[0] < min(self.frame_shape[1:])


@dataclass(frozen=True)
class EnvSpec:
    """Observations and actions of an environment."""

    id: str
    observation: ObservationSpec
    num_actions: int
    first_action: int = 0
    """Number that the environment gives to the first action; networks count from 0."""


def convolution_shapes(
    convolutions: tuple[tuple[int, int, int], ...], observation: ObservationSpec
) -> list[tuple[int, int, int]]:
    """Return the shapes of the image and of each convolution's output, without padding.

    Args:
      convolutions: Filters, kernel size and stride of each convolution.
      observation: Spec of the image.

    Returns:
      Height, width and channels, first of the image, then of each output.

    Raises:
      ConfigError: If a kernel is larger than its input.
    """
    shapes = [observation.image_shape]
    for filters, kernel, stride in convolutions:
        height, width, _ = shapes[-1]
        if min(height, width) < kernel:
            raise ConfigError(
                f"network.conv_layer_params={[list(x) for x in convolutions]}: a kernel of "
                f"{kernel} by {kernel} does not fit into its input of {height} by {width}, given "
                f"images of shape {observation.frame_shape}; choose smaller kernels or strides, "
                "such as [[16, 3, 1]], or [] for dense layers only"
            )
        shapes.append(((height - kernel) // stride + 1, (width - kernel) // stride + 1, filters))
    return shapes
