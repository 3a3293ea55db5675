"""`dqnkit ui`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from cli import options


def ui(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="What to open: a run, a group of seeds, a study or a comparison, by id or name. "
            "Default: what the latest run belongs to.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Open the trials of a study.", show_default=False),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Open the trainings of an experiment.", show_default=False
        ),
    ] = None,
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
    from cli.output import say, waiting, warn
    from dqnkit.errors import ConfigError, TrackingError
    from dqnkit.tracking.location import locate_store
    from dqnkit.tracking.pages import find_page
    from dqnkit.tracking.store import RunStore
    from dqnkit.tracking.ui import check_not_empty, served

    if sum(each is not None for each in (run, study, experiment)) > 1:
        raise ConfigError("give one of RUN, --study and --experiment, which open different pages")
    found = locate_store(tracking_uri)
    check_not_empty(found)
    try:
        with waiting("reading the runs", shown=True):
            path, problem = find_page(RunStore(found), run, study=study, experiment=experiment)
        warn([problem] if problem else [])
    except TrackingError:  # the address of a server that does not answer may be asked for too
        if found.address is None or run or study or experiment:
            raise
        path = ""
    if found.address is not None:
        page = found.address + path
        say(page)
        _open(page, wanted=browser)
        return
    try:
        with ExitStack() as stack:
            with waiting("starting MLflow's server", shown=True):
                wait, address = stack.enter_context(served(found, port))
            page = address + path
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
