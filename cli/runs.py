"""`dqnkit runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import options

if TYPE_CHECKING:
    from dqnkit.tracking.recorded_run import RecordedRun


def runs(
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only runs of this experiment.", show_default=False),
    ] = None,
    status: Annotated[
        Literal["RUNNING", "FINISHED", "FAILED", "KILLED"] | None,
        typer.Option(help="Only runs with this status.", case_sensitive=False, show_default=False),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only trials of this study.", show_default=False),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Sort by this metric, highest value first, e.g. final/return_iqm. Default: latest "
            "run first.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of runs.")] = 20,
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
) -> None:
    """List runs and their results."""
    from cli import output
    from dqnkit.analysis.listing import list_runs

    found = list_runs(
        experiment=experiment,
        status=status,
        study=study,
        sort=sort,
        limit=limit,
        tracking_uri=tracking_uri,
    )
    if as_json:
        output.say_document([run.as_dict() for run in found])
    elif not found and (experiment or status or study):
        output.say("no runs match; `dqnkit runs` without options lists all of them")
    elif not found:
        output.say("no runs; `dqnkit train` makes one, and --tracking-uri chooses another store")
    else:
        _print(found, sort)
    _warn_of_undelivered(tracking_uri)


def _warn_of_undelivered(tracking_uri: str) -> None:
    from cli import output
    from dqnkit._system.commands import command_line
    from dqnkit.tracking.location import locate_store
    from dqnkit.tracking.outbox import count_undelivered, stores_with_undelivered

    store = locate_store(tracking_uri)
    warnings = [
        f"runs of {name} are not fully delivered: `{command_line('sync', tracking_uri=name)}` "
        "sends them"
        for name in stores_with_undelivered(store)
    ]
    count = count_undelivered(store)
    if count:
        warnings.append(
            f"{count} run{'s are' if count > 1 else ' is'} not fully in the store: "
            f"`{store.command_line('sync')}` sends the rest, and "
            "`dqnkit train --resume RUN` continues the training"
        )
    output.warn(warnings)


def _print(found: list[RecordedRun], sort: str | None) -> None:
    from cli.output import Column, ago, duration, say_table
    from dqnkit.evaluation.formatting import format_interval, format_number
    from dqnkit.tracking.names import Metric

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
    extra = [sort] if sort is not None and sort != Metric.FINAL_IQM else []
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
                    metrics.get(Metric.FINAL_LOW),
                    metrics.get(Metric.FINAL_HIGH),
                ),
                format_number(metrics.get(Metric.FINAL_MEAN)),
                format_number(metrics.get(Metric.BEST_MEAN)),
                format_number(metrics.get(Metric.STEPS_PER_SECOND), whole=True),
                duration(run.seconds),
                ago(run.started),
                *(format_number(metrics.get(each)) for each in extra),
            ]
        )
    say_table([*columns, *map(Column, extra)], rows)
