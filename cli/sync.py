"""`dqnkit sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli import options

if TYPE_CHECKING:
    from dqnkit.runs.sync import SyncResult


def sync(
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Send to the store what it could not receive while runs were trained."""
    from cli import output  # deferred, so that `--help` is quick
    from dqnkit.runs.sync import sync as deliver

    with output.reserve_stdout(as_json=as_json):
        result = deliver(tracking_uri)
    if as_json:
        document = result.as_dict()
        for run in document["runs"]:
            run["why"] = output.shown(run["why"])
        output.say_document(document)
    elif not quiet:
        _print(result)
    if result.left:
        raise typer.Exit(1)


def _print(result: SyncResult) -> None:
    from cli import output

    if not result.runs:
        output.say(f"nothing is pending for {result.store}")
    for run in result.runs:
        if run.sent:
            sent = f"sent {run.what}" if run.what else "nothing was missing"
            output.say(f"{run.run_name} is complete: {sent}")
    output.warn(
        f"{run.run_name} is pending in {run.folder}: {run.why}"
        for run in result.runs
        if not run.sent
    )
