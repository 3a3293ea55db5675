"""Command lines in this process, and what several commands are tested with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import typer

from cli import main, messages
from tests.runs import LEAN, record

Run = Callable[..., tuple[int, str, str]]
APP = typer.main.get_command(main.app)

FAST = [
    *("--set", "network.fc_layer_params=[8]", "--set", "training.num_iterations=60"),
    *("--set", "training.initial_collect_steps=20", "--set", "evaluation.eval_interval=30"),
    *("--set", "replay.replay_buffer_max_length=1000", "--set", "evaluation.final_episodes=10"),
    *("--set", "training.loop=host"),  # it starts faster than the graph loop compiles
]
"""Options with which any experiment takes seconds."""


@pytest.fixture(autouse=True)
def _no_command() -> Iterator[None]:
    """End a test as it begins: messages name no options."""
    yield
    messages.set_command(APP, None)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Function that runs a command line in this process; returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def record_solved(name: str = "solved") -> str:
    """Record a finished run whose policy solves CartPole; return its id."""
    return record(
        name=name,
        weights=LEAN,
        with_policy=True,
        finals=[499.0, 500.0],
        curve={0: [10.0], 100: [499.0]},
    )


def assert_misused(result: tuple[int, str, str], *parts: str) -> None:
    """Assert that a command printed one message on stderr, and ended with exit code 2."""
    code, out, err = result
    assert (code, out) == (2, ""), err
    for part in parts:
        assert part in err
    assert "Traceback" not in err
    assert err.count("error:") + err.count("Error") == 1
