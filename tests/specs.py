"""Specs of observations of one array, for tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dqnkit.envs.observations import channels_first
from dqnkit.envs.specs import ArraySpec, EnvSpec, ObservationKind, ObservationSpec


def array_spec(
    kind: str, shape: tuple[int, ...], dtype: str = "float32", **fields: Any
) -> ArraySpec:
    """Return the spec of an array; `num_values` and `first_value` are those of each element."""
    kind = ObservationKind(kind)
    if kind is ObservationKind.DISCRETE:
        size = math.prod(shape)
        count = fields.pop("num_values")
        fields["num_values"] = (count,) * size
        fields["first_values"] = (fields.pop("first_value", 0),) * size
        dtype = np.min_scalar_type(count - 1).name
    if kind is ObservationKind.IMAGE:
        fields.setdefault("channels_first", channels_first(shape, "auto"))
    return ArraySpec(kind, shape, dtype, **fields)


def observation_spec(
    kind: str,
    frame_shape: tuple[int, ...],
    dtype: str = "float32",
    frame_stack: int = 1,
    **fields: Any,
) -> ObservationSpec:
    """Return the spec of observations of one array."""
    return ObservationSpec((array_spec(kind, frame_shape, dtype, **fields),), frame_stack)


def vector_spec(size: int, num_actions: int = 3, env_id: str = "Corridor-v0") -> EnvSpec:
    """Return the spec of an environment whose observations are float32 vectors."""
    return EnvSpec(env_id, observation_spec("vector", (size,)), num_actions)
