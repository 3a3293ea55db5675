from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqnkit._system.arrays import load_arrays, save_arrays
from dqnkit.errors import CheckpointError

PATH = Path("x.npz")


def test_loaded_arrays_equal_the_saved_ones() -> None:
    saved = {"a/0": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int64(7) * np.ones(())}
    save_arrays(PATH, saved)
    loaded = load_arrays(PATH)
    assert loaded.keys() == saved.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype
    assert list(Path().iterdir()) == [PATH]


def test_numpy_reads_the_file_too() -> None:
    save_arrays(PATH, {"a": np.arange(3)})
    with np.load(PATH) as archive:
        np.testing.assert_array_equal(archive["a"], np.arange(3))


def test_a_failed_write_keeps_the_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    save_arrays(PATH, {"a": np.zeros(3)})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dqnkit._system.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_arrays(PATH, {"a": np.ones(3)})
    np.testing.assert_array_equal(load_arrays(PATH)["a"], np.zeros(3))
    assert list(Path().iterdir()) == [PATH]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "missing"])
def test_a_damaged_file_raises_checkpoint_error(damage: str) -> None:
    save_arrays(PATH, {"a": np.arange(1_000)})
    content = bytearray(PATH.read_bytes())
    if damage == "truncated":
        PATH.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
        PATH.write_bytes(content)
    elif damage == "text":
        PATH.write_text("not an archive", encoding="utf-8")
    else:
        PATH.unlink()
    with pytest.raises(CheckpointError, match=r"x\.npz"):
        load_arrays(PATH)


def test_every_single_byte_is_covered_by_the_digest() -> None:
    save_arrays(PATH, {"a": np.arange(3)})
    content = PATH.read_bytes()
    for i in range(len(content)):
        PATH.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(CheckpointError):
            load_arrays(PATH)


def test_objects_are_never_unpickled() -> None:
    np.savez(PATH, a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(CheckpointError):
        load_arrays(PATH)
