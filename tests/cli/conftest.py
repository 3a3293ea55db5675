from __future__ import annotations

from collections.abc import Callable

import pytest

from cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call
