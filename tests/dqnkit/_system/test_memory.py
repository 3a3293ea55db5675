from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqnkit._system import memory
from dqnkit.errors import ConfigError


def test_the_machine_has_more_memory_than_this_process_uses() -> None:
    assert 2**20 < memory.process_memory() < memory.machine_memory()


def test_process_memory_grows_with_written_arrays() -> None:
    before = memory.process_memory()
    array = np.ones(64 * 2**20, np.uint8)
    grown = memory.process_memory() - before
    assert grown == pytest.approx(array.nbytes, rel=0.1)


def test_process_memory_is_0_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert memory.process_memory() == 0


def test_a_replay_larger_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 8 * 2**30)
    memory.check_replay_fits_memory(1_000, 8 * 2**30)
    with pytest.raises(
        ConfigError,
        match=r"replay.replay_buffer_max_length=2,000 needs 16 GiB, and this machine has 8 GiB",
    ):
        memory.check_replay_fits_memory(2_000, 16 * 2**30)
