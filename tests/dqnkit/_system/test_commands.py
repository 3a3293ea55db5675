from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dqnkit._system.commands import as_typed, command_line


@pytest.fixture(autouse=True)
def _outside_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(Path.cwd()))


def test_under_uv_the_command_is_run_by_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV", "/usr/bin/uv")
    assert as_typed("dqnkit ui") == "uv run dqnkit ui"


def test_a_command_on_the_path_is_given_as_it_is() -> None:
    Path("dqnkit").touch()
    os.chmod("dqnkit", 0o755)  # noqa: PTH101 - short
    assert as_typed("dqnkit ui") == "dqnkit ui"


def test_otherwise_the_command_has_its_full_path() -> None:
    assert as_typed("dqnkit ui") == f"{Path(sys.executable).parent}/dqnkit ui"


def test_values_are_options_and_truth_values_are_flags() -> None:
    line = command_line("tune", study="a b", retrain_repeats=True, promote=False, seed=None)
    assert line.endswith("dqnkit tune --study 'a b' --retrain-repeats --no-promote")
