"""`dqnkit ui`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from cli import options


def ui(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65_535,
            help="Port to listen at. Default: the first free one from 5000 upwards.",
            show_default=False,
        ),
    ] = None,
    browser: Annotated[
        bool,
        typer.Option("--open/--no-open", help="Open the page in a browser, if there is a screen."),
    ] = True,
    tracking_uri: options.TrackingUri = options.AUTO,
) -> None:
    """Serve MLflow's UI with the runs to this machine only, until Ctrl-C."""
    from cli.output import say, waiting
    from dqnkit.tracking.location import locate_store
    from dqnkit.tracking.ui import served

    found = locate_store(tracking_uri)
    if found.address is not None:
        say(found.address)
        _open(found.address, wanted=browser)
        return
    try:
        with ExitStack() as stack:
            with waiting("starting MLflow's server", shown=True):
                wait, page = stack.enter_context(served(found, port))
            say(page)
            say("Ctrl-C ends it")
            _open(page, wanted=browser)
            wait()
    except KeyboardInterrupt:
        say("ended")


def _open(page: str, *, wanted: bool) -> None:
    """Open a page if there is a screen; a text browser would block the terminal."""
    import os
    import sys
    import webbrowser

    screen = sys.platform in {"darwin", "win32"} or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if wanted and screen and sys.stdout.isatty():
        webbrowser.open(page)
