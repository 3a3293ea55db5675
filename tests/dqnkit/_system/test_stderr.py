from __future__ import annotations

import os
import sys
import warnings

import pytest

from dqnkit._system.stderr import quiet_stderr


def _print_everywhere() -> None:
    os.write(2, b"from C++\n")
    sys.stderr.write("from Python\n")
    warnings.warn("a warning", stacklevel=2)


def test_output_in_the_body_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        _print_everywhere()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_the_output_is_printed_when_the_body_raises(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with quiet_stderr():
            _print_everywhere()
            raise ImportError("broken")

    with pytest.raises(ImportError):
        fail()
    shown = capfd.readouterr().err
    assert "from C++" in shown
    assert "from Python" in shown
