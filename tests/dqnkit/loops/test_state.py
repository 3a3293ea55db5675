from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from dqnkit._system.arrays import Arrays
from dqnkit._system.tensorflow import tf
from dqnkit.errors import ConfigError
from dqnkit.loops.state import (
    generator_state,
    named_leaves,
    prefixed,
    require,
    require_exactly,
    restore_generator,
    section,
)


class Inner(NamedTuple):
    levels: tuple[int, ...]
    highest: int


class Outer(NamedTuple):
    first: int
    inner: Inner
    nothing: tuple[()] = ()


def test_leaves_are_named_by_field_or_position() -> None:
    assert named_leaves("loop", Outer(1, Inner((2, 3), 4))) == {
        "loop/first": 1,
        "loop/inner/levels/0": 2,
        "loop/inner/levels/1": 3,
        "loop/inner/highest": 4,
    }
    assert named_leaves("loop", 5) == {"loop": 5}


@pytest.mark.parametrize(
    "value", [Outer(1, Inner((2, 3), 4)), Outer(1, Inner((), 4)), Inner((1,), 2), (1, (2, 3))]
)
def test_leaves_are_in_the_order_of_tensorflow(value: Any) -> None:
    """`GraphLoop.restore` packs them by `tf.nest`."""
    leaves = list(named_leaves("loop", value).values())
    assert leaves == tf.nest.flatten(value)
    assert tf.nest.pack_sequence_as(value, leaves) == value


def test_a_section_is_the_inverse_of_a_prefix() -> None:
    arrays = {"a": np.zeros(1), "b/c": np.ones(2)}
    state = prefixed("replay", arrays) | prefixed("replays", {"d": np.zeros(3)})
    assert list(state) == ["replay/a", "replay/b/c", "replays/d"]
    assert section(state, "replay") == arrays
    assert section(state, "agent") == {}


STATE: Arrays = {"loop/a": np.zeros(1), "loop/b": np.zeros(1), "agent/c": np.zeros(1)}


def test_missing_arrays_are_named() -> None:
    require(STATE, "loop/a", "agent/c")
    with pytest.raises(ConfigError, match="has no 'loop/d': it belongs to another loop"):
        require(STATE, "loop/a", "loop/d", "loop/e")


def test_unknown_arrays_of_a_section_are_named() -> None:
    require_exactly(STATE, "loop", ["loop/a", "loop/b"])
    with pytest.raises(ConfigError, match="has no 'loop/d'"):
        require_exactly(STATE, "loop", ["loop/a", "loop/b", "loop/d"])
    with pytest.raises(ConfigError, match="has 'loop/b', which this loop does not have"):
        require_exactly(STATE, "loop", ["loop/a"])


def _draw(rng: np.random.Generator) -> list[Any]:
    # Integers of 32 bits take half of a draw and leave the other half in the generator's state.
    return [rng.random(), rng.integers(2**32, dtype=np.uint32), rng.normal()]


@pytest.mark.parametrize("drawn", [0, 1, 2, 3, 5])
def test_a_restored_generator_continues_the_sequence(drawn: int) -> None:
    rng = np.random.Generator(np.random.Philox(7))
    for _ in range(drawn):
        rng.integers(2**32, dtype=np.uint32)
    state = generator_state(rng)
    assert all(value.dtype == np.uint64 for value in state.values())
    again = np.random.Generator(np.random.Philox(8))
    restore_generator(again, {name: value.copy() for name, value in state.items()})
    assert [_draw(again) for _ in range(5)] == [_draw(rng) for _ in range(5)]
