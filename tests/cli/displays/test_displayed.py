from __future__ import annotations

import io
from functools import partial

import pytest
from rich.console import Console, RenderableType
from rich.text import Text
from typing_extensions import override

from cli import displays
from cli.displays import LiveDisplay, displayed, print_warnings
from dqnkit.errors import ConfigError
from dqnkit.events import Event, Listener, Warned, WorkerReady


class _Live(LiveDisplay):
    def __init__(self) -> None:
        self._text = "nothing"

    @override
    def __call__(self, event: Event) -> None:
        self._text = str(event)

    @override
    def __rich__(self) -> RenderableType:
        return Text(self._text)


def _plain() -> Listener:
    return print_warnings


@pytest.mark.parametrize("transient", [True, False])
def test_a_terminal_shows_the_live_display(
    transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = partial(Console, file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(displays, "Console", console)
    with displayed(_Live, _plain, as_json=False, quiet=False, transient=transient) as listener:
        listener(WorkerReady())
    assert "WorkerReady()" in screen.getvalue()
    erased = screen.getvalue().rstrip().endswith("\x1b[2K")
    assert erased == transient


def test_a_mistake_before_the_first_event_leaves_no_display(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    console = partial(Console, file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(displays, "Console", console)
    with (
        pytest.raises(ConfigError),
        displayed(_Live, _plain, as_json=False, quiet=False, transient=False),
    ):
        raise ConfigError("there is no such environment")
    assert screen.getvalue().rstrip().endswith("\x1b[2K")


def test_a_pipe_gets_the_plain_listener() -> None:
    with displayed(_Live, lambda: print, as_json=False, quiet=False, transient=True) as listener:
        assert listener is print


@pytest.mark.parametrize(("as_json", "quiet"), [(True, False), (False, True)])
def test_quiet_commands_print_only_warnings(
    as_json: bool, quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with displayed(_Live, lambda: print, as_json=as_json, quiet=quiet, transient=True) as listener:
        listener(WorkerReady())
        listener(Warned("look here"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: look here\n")
