"""`dqnkit runs`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import options

if TYPE_CHECKING:
    from dqnkit.tracking.recorded_run import RecordedRun


def runs(
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this experiment's.", show_default=False),
    ] = None,
    status: Annotated[
        Literal["RUNNING", "FINISHED", "FAILED", "KILLED"] | None,
        typer.Option(help="Only runs that ended so.", case_sensitive=False, show_default=False),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only trials of this study.", show_default=False),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="The highest first, e.g. final/return_iqm. Default: the latest first.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Show at most so many.")] = 20,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
) -> None:
    """List runs and what they came to."""
    from cli import output
    from dqnkit.analysis.listing import list_runs
    from dqnkit.tracking.store import RunFilter

    found = list_runs(
        RunFilter(experiment, status, study), sort=sort, limit=limit, tracking_uri=tracking_uri
    )
    if as_json:
        output.say_document([run.as_dict() for run in found])
    elif not found and (experiment or status or study):
        output.say("no runs are so; `dqnkit runs` without filters lists them all")
    elif not found:
        output.say("no runs; `dqnkit train` makes one, --tracking-uri names another store")
    else:
        _print(found, sort)
    _say_what_waits(tracking_uri)


def _say_what_waits(tracking_uri: str | None) -> None:
    from cli import output
    from dqnkit._system.commands import as_typed
    from dqnkit.tracking import location
    from dqnkit.tracking.sync import stores_waited_for, waiting

    place = location.locate_store(tracking_uri)
    output.warn(
        [
            f"runs of {name} wait here: "
            f"`{as_typed(f'dqnkit sync --tracking-uri {shlex.quote(name)}')}` sends them"
            for name in stores_waited_for(place)
        ]
    )
    count = waiting(place)
    if count:
        output.warn(
            [
                f"of {count} run{'s' * (count > 1)} not all is in the store: "
                f"`{as_typed(place.command('sync'))}` sends it, `dqnkit train --resume RUN` goes on"
            ]
        )


def _print(found: list[RecordedRun], sort: str | None) -> None:
    from cli.formats import ago, duration
    from cli.output import Column, say_table
    from dqnkit.evaluation.formatting import format_interval, format_number

    columns = [
        Column("id", left=True),
        Column("run", left=True),
        Column("experiment", left=True, spare=1),
        Column("status", left=True),
        Column("IQM (95 % interval)"),
        Column("mean", spare=2),
        Column("best", spare=4),
        Column("steps/s", spare=6),
        Column("time", spare=5),
        Column("started", spare=3),
    ]
    extra = [sort] if sort is not None and sort != "final/return_iqm" else []
    rows = []
    for run in found:
        metrics = run.metrics
        rows.append(
            [
                run.id[:8],
                run.name,
                run.experiment,
                run.status.lower(),
                format_interval(
                    run.score,
                    metrics.get("final/return_ci_low"),
                    metrics.get("final/return_ci_high"),
                ),
                format_number(metrics.get("final/return_mean")),
                format_number(metrics.get("best/return_mean")),
                format_number(metrics.get("time/steps_per_second"), whole=True),
                duration(run.seconds),
                ago(run.started),
                *(format_number(metrics.get(each)) for each in extra),
            ]
        )
    say_table([*columns, *map(Column, extra)], rows)
