"""`dqnkit sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli import options

if TYPE_CHECKING:
    from dqnkit.tracking.sync import SyncResult


def sync(
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Send what the tracking store did not take while runs were trained."""
    from cli import output  # `--help` waits for nothing that the work needs
    from dqnkit.tracking import location
    from dqnkit.tracking.sync import sync as send

    with output.stdout_for_the_document(as_json=as_json):
        result = send(location.locate_store(tracking_uri).make())
    if as_json:
        output.say_document(result.as_dict())
    elif not quiet:
        _say(result)
    if result.left:
        raise typer.Exit(1)


def _say(result: SyncResult) -> None:
    from cli import output

    if not result.runs:
        output.say(f"nothing waits to be sent to {result.store}")
    for run in result.runs:
        if run.sent:
            output.say(f"sent  {run.run_name}: {run.what}")
    output.warn(
        f"{run.run_name} waits in {run.folder}: {run.why}" for run in result.runs if not run.sent
    )
