"""The inputs of a network: frames of the replay, and observations of the environment, as arrays."""

from __future__ import annotations

import itertools

import numpy as np

from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.envs.specs import ArraySpec, ObservationKind, ObservationSpec


def split_frames(frames: Tensor, spec: ObservationSpec) -> list[Tensor]:
    """Return the arrays of stacked frames with their stored values.

    Args:
      frames: Frames, [B, *spec.shape], in their own dtype or as float32.
      spec: Spec of the observations.

    Returns:
      Arrays [B, frame_stack, *shape], in their own dtypes or as float32.
    """
    if not spec.is_record:
        return [tf.reshape(frames, [-1, spec.frame_stack, *spec.frame_shape])]
    records = tf.reshape(tf.cast(frames, tf.uint8), [-1, spec.frame_stack, *spec.frame_shape])
    sizes = [array.num_bytes for array in spec.arrays]
    parts = tf.split(records, sizes, axis=-1)
    return [
        _from_bytes(part, array, spec.frame_stack)
        for part, array in zip(parts, spec.arrays, strict=True)
    ]


def from_environment(observation: Tensor, array: ArraySpec, frame_stack: int) -> Tensor:
    """Return one array with stored values, [B, frame_stack, *shape].

    Args:
      observation: Array of the observations as the environment gives it, [B, *shape], or
        [B, frame_stack, *shape] if frames are stacked.
      array: Spec of the array.
      frame_stack: Number of stacked frames.
    """
    values = tf.reshape(observation, [-1, frame_stack, *array.shape])
    if array.kind is ObservationKind.DISCRETE:
        values -= tf.constant(np.reshape(array.first_values, array.shape), values.dtype)
    return values


def to_environment(values: Tensor, array: ArraySpec, spec: ObservationSpec) -> Tensor:
    """Return stored values as the environment gives them: the inverse of `from_environment`."""
    shaped = tf.reshape(values, [-1, *spec.stacked(array.shape)])
    if array.kind is not ObservationKind.DISCRETE:
        return tf.cast(shaped, array.dtype)
    return tf.cast(shaped, tf.int64) + np.reshape(array.first_values, array.shape)


def features(values: Tensor, array: ArraySpec) -> Tensor:
    """Return the inputs of dense layers, float32 [B, frame_stack * num_features].

    Discrete elements are one-hot, the others scaled (`ArraySpec.scale`).

    Args:
      values: Stored values, [B, frame_stack, *shape].
      array: Spec of the array.
    """
    stack = values.shape[1]
    if array.kind is not ObservationKind.DISCRETE:
        scaled = tf.cast(values, tf.float32) * array.scale
        return tf.reshape(scaled, [-1, stack * array.num_features])
    flat = tf.reshape(tf.cast(values, tf.int32), [-1, stack, array.size])
    if array.size == 1:
        encoded = tf.one_hot(flat[:, :, 0], array.num_values[0])
    else:
        # Feature j is 1 if element owner[j] has the value of[j].
        owner = [i for i, count in enumerate(array.num_values) for _ in range(count)]
        of = list(itertools.chain.from_iterable(map(range, array.num_values)))
        encoded = tf.cast(tf.equal(tf.gather(flat, owner, axis=2), of), tf.float32)
    return tf.reshape(encoded, [-1, stack * array.num_features])


def image(values: Tensor, array: ArraySpec) -> Tensor:
    """Return scaled images, float32 [B, height, width, channels]; stacked frames are channels.

    Args:
      values: Stored values, [B, frame_stack, *shape].
      array: Spec of the image.
    """
    height, width, channels = array.image_shape
    stack = values.shape[1]
    scaled = tf.cast(values, tf.float32) * array.scale
    if array.channels_first:
        planes = tf.reshape(scaled, [-1, stack * channels, height, width])
        return tf.transpose(planes, [0, 2, 3, 1])
    planes = tf.reshape(scaled, [-1, stack, height, width, channels])
    planes = tf.transpose(planes, [0, 2, 3, 1, 4])
    return tf.reshape(planes, [-1, height, width, stack * channels])


def _from_bytes(part: Tensor, array: ArraySpec, stack: int) -> Tensor:
    """Return the array [B, frame_stack, *shape] that bytes uint8 [B, frame_stack, n] hold."""
    dtype = tf.as_dtype(array.dtype)
    if dtype == tf.bool:
        return tf.reshape(part, [-1, stack, *array.shape])
    if dtype.size > 1:
        part = tf.reshape(part, [-1, stack, array.size, dtype.size])
    return tf.reshape(tf.bitcast(part, dtype), [-1, stack, *array.shape])
