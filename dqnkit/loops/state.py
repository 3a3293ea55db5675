"""Named leaves of a loop's state, as checkpoints hold them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from dqnkit._system.arrays import Arrays
from dqnkit.errors import ConfigError

_GENERATOR_INTEGERS = ("buffer_pos", "has_uint32", "uinteger")
"""Integers in the state of NumPy's Philox generator."""


def named_leaves(name: str, value: Any) -> dict[str, Any]:
    """Flatten nested tuples into `{"name/field/field": leaf}`, in the order of `tf.nest.flatten`.

    Fields of a NamedTuple go by their names and entries of other tuples by their positions.
    """
    if not isinstance(value, tuple):
        return {name: value}
    fields = value._asdict() if hasattr(value, "_asdict") else dict(enumerate(value))
    leaves: dict[str, Any] = {}
    for field, entry in fields.items():
        leaves |= named_leaves(f"{name}/{field}", entry)
    return leaves


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    """Return the arrays with `prefix/` before each name."""
    return {f"{prefix}/{name}": value for name, value in arrays.items()}


def section(state: Arrays, prefix: str) -> Arrays:
    """Return the arrays whose names begin with `prefix/`, by the rest of their names."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}


def require(state: Arrays, *names: str) -> None:
    """Check that a state holds some arrays.

    Raises:
      ConfigError: If one is missing, as in the state of another kind of loop.
    """
    missing = [name for name in names if name not in state]
    if missing:
        raise ConfigError(f"the saved state has no {missing[0]!r}: it belongs to another loop")


def require_exactly(state: Arrays, prefix: str, names: Collection[str]) -> None:
    """Check that the arrays below `prefix/` are the named ones and no others.

    Raises:
      ConfigError: If one is missing or unknown, as in the state of a loop with another replay.
    """
    require(state, *names)
    unknown = [n for n in state if n.startswith(f"{prefix}/") and n not in names]
    if unknown:
        raise ConfigError(
            f"the saved state has {unknown[0]!r}, which this loop does not have: restore it with "
            "the configuration that it was saved with"
        )


def generator_state(rng: np.random.Generator) -> Arrays:
    """Return the state of a generator over `np.random.Philox`."""
    state: Any = rng.bit_generator.state
    rest = {name: np.array(state[name], np.uint64) for name in _GENERATOR_INTEGERS}
    return {**state["state"], "buffer": state["buffer"], **rest}


def restore_generator(rng: np.random.Generator, arrays: Arrays) -> None:
    """Set a generator to a `generator_state`."""
    state: Any = rng.bit_generator.state
    state["state"] = {"counter": arrays["counter"], "key": arrays["key"]}
    state["buffer"] = arrays["buffer"]
    state |= {name: int(arrays[name]) for name in _GENERATOR_INTEGERS}
    rng.bit_generator.state = state
