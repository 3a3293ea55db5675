"""What an environment shows and takes: the contract between environments, replays and networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dqnkit.errors import ConfigError


class Kind(StrEnum):
    """How a network reads an observation."""

    VECTOR = "vector"
    """Numbers; flattened where they have several axes."""
    DISCRETE = "discrete"
    """One of finitely many values; one-hot."""
    IMAGE = "image"
    """Two spatial axes, and channels before or behind them where there are three."""


@dataclass(frozen=True)
class ObservationSpec:
    """Observations as Gymnasium gives them, but for the width of their numbers."""

    kind: Kind
    frame_shape: tuple[int, ...]
    """Of what one step gives; () if discrete."""
    dtype: str
    """NumPy's name: float32, int64 (discrete), or uint8, int8 or bool as they are."""
    frame_stack: int = 1
    """Consecutive frames that make an observation, the newest last."""
    num_values: int = 0
    """Values that a discrete observation takes."""
    first_value: int = 0
    """The least of them."""
    low: float = -math.inf
    high: float = math.inf
    """Bounds of the numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an observation: the frame's, below an axis of frames where they are stacked."""
        stack = () if self.frame_stack == 1 else (self.frame_stack,)
        return (*stack, *self.frame_shape)

    @property
    def size(self) -> int:
        """Numbers in an observation."""
        return math.prod(self.shape)

    @property
    def scale(self) -> float:
        """What numbers are multiplied by: bytes that span 0 to 255 come into [0, 1]."""
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
        """Whether channels come before height and width: if that axis is shorter than both."""
        return len(self.frame_shape) == 3 and self.frame_shape[0] < min(self.frame_shape[1:])


@dataclass(frozen=True)
class EnvSpec:
    """What an agent must know of its environment."""

    id: str
    observation: ObservationSpec
    num_actions: int
    first_action: int = 0
    """The environment's number of the first action; networks count from 0."""


def convolution_shapes(
    convolutions: tuple[tuple[int, int, int], ...], observation: ObservationSpec
) -> list[tuple[int, int, int]]:
    """Height, width and channels of the image and of each convolution's output, no padding.

    Raises:
      ConfigError: A kernel is larger than what it is laid on.
    """
    shapes = [observation.image_shape]
    for filters, kernel, stride in convolutions:
        height, width, _ = shapes[-1]
        if min(height, width) < kernel:
            raise ConfigError(
                f"network.conv_layer_params={[list(x) for x in convolutions]}: a kernel of "
                f"{kernel} by {kernel} does not fit into {height} by {width}, which is left of an "
                f"image of shape {observation.frame_shape}; give smaller kernels or strides, such "
                "as [[16, 3, 1]], or [] for dense layers alone"
            )
        shapes.append(((height - kernel) // stride + 1, (width - kernel) // stride + 1, filters))
    return shapes
