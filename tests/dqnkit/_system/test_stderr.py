from __future__ import annotations

import os
import sys
import warnings

import pytest

from dqnkit._system.stderr import quiet_stderr


def _speak() -> None:
    os.write(2, b"from C++\n")
    sys.stderr.write("from Python\n")
    warnings.warn("a warning", stacklevel=2)


def test_what_libraries_say_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        _speak()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_it_is_shown_when_they_fail(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with quiet_stderr():
            _speak()
            raise ImportError("broken")

    with pytest.raises(ImportError):
        fail()
    shown = capfd.readouterr().err
    assert "from C++" in shown
    assert "from Python" in shown
