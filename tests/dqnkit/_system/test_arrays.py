from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqnkit._system import arrays
from dqnkit.errors import CheckpointError


def test_arrays_come_back_as_they_were() -> None:
    arrays = {"a/0": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int64(7) * np.ones(())}
    arrays.save_arrays(Path("x.npz"), arrays)
    loaded = arrays.load_arrays(Path("x.npz"))
    assert loaded.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype
    assert [path.name for path in Path().iterdir()] == ["x.npz"]


def test_a_failing_write_leaves_the_old_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("x.npz")
    arrays.save_arrays(path, {"a": np.zeros(3)})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dqnkit._system.arrays.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        arrays.save_arrays(path, {"a": np.ones(3)})
    np.testing.assert_array_equal(arrays.load_arrays(path)["a"], np.zeros(3))


@pytest.mark.parametrize("damage", ["truncate", "flip", "text", "missing"])
def test_what_is_no_checkpoint_is_said_to_be_none(damage: str) -> None:
    path = Path("x.npz")
    arrays.save_arrays(path, {"a": np.arange(1_000)})
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("not an archive", encoding="utf-8")
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"x\.npz"):
        arrays.load_arrays(path)


def test_nothing_is_ever_unpickled() -> None:
    np.savez("x.npz", a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(CheckpointError):
        arrays.load_arrays(Path("x.npz"))
