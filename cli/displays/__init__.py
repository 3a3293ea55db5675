"""Live displays and plain lines: listeners of the events of `dqnkit.events`.

On a terminal a display is redrawn in place, elsewhere lines are printed, and with `--json` or
`--quiet` only warnings are.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.live import Live

from cli.output import warn
from dqnkit.events import Event, Listener, Warned, WorkerEvent


class LiveDisplay(abc.ABC):
    """A display that is redrawn in place: a listener that Rich can render."""

    @abc.abstractmethod
    def __call__(self, event: Event) -> None:
        """Update the display from an event."""

    @abc.abstractmethod
    def __rich__(self) -> RenderableType:
        """Render the display."""


def print_warnings(event: Event) -> None:
    """Print warnings and nothing else: the listener of quiet commands."""
    match event:
        case Warned(text) | WorkerEvent(event=Warned(text)):
            warn([text])


@contextlib.contextmanager
def displayed(
    live: Callable[[], LiveDisplay],
    plain: Callable[[], Listener],
    *,
    as_json: bool,
    quiet: bool,
    transient: bool,
) -> Iterator[Listener]:
    """Yield the listener that suits the output; a live display is shown during the body.

    Args:
      live: Factory of the display for a terminal.
      plain: Factory of the listener for pipes and logs.
      as_json: True if stdout is for a JSON document.
      quiet: True to print warnings only.
      transient: True if the live display disappears at the end.
    """
    console = Console(highlight=False)
    if as_json or quiet:
        yield print_warnings
    elif console.is_terminal:
        with _shown(live(), console, transient=transient) as listener:
            yield listener
    else:
        yield plain()


@contextlib.contextmanager
def _shown(display: LiveDisplay, console: Console, *, transient: bool) -> Iterator[Listener]:
    """Show a live display; one that has received no event disappears with an error."""
    is_empty = True

    def listener(event: Event) -> None:
        nonlocal is_empty
        is_empty = False
        display(event)

    with Live(display, console=console, refresh_per_second=8, transient=transient) as screen:
        try:
            yield listener
        except BaseException:
            screen.transient = transient or is_empty
            raise
