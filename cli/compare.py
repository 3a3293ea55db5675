"""`dqnkit compare`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options

if TYPE_CHECKING:
    from dqnkit.analysis.comparison import Comparison

_DECIMAL = re.compile(r"-?\d+\.\d+(e[-+]?\d+)?")
"""Floating-point numbers, as MLflow records them."""
_MAX_BESIDE = 3
"""Maximum number of parameters that stand beside the scores."""
_MAX_LETTERS = 8
"""Maximum number of groups that the table of parameters has beside each other."""
_MAX_ROWS = 15
"""Number of groups that are printed unless all are asked for."""


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help=f"{options.RUN_HELP}.", show_default=False),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Add all runs of this experiment.", show_default=False),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Add all trials of this study.", show_default=False),
    ] = None,
    show_all: Annotated[
        bool,
        typer.Option("--all", help=f"Print all groups of runs, and not the first {_MAX_ROWS}."),
    ] = False,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the learning curves and a JSON document.",
        ),
    ] = Path("comparison"),
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
) -> None:
    """Compare runs: differing parameters, scores with intervals, and learning curves.

    Runs that differ only in their seed are pooled.
    """
    from cli import output as printing
    from dqnkit.analysis.comparison import compare as run_comparison

    with printing.waiting("reading runs", shown=True):
        comparison = run_comparison(
            *(runs or []),
            experiment=experiment,
            study=study,
            output=output,
            tracking_uri=tracking_uri,
        )
    printing.warn(comparison.problems)
    if as_json:
        printing.say_document(comparison.as_dict())
    else:
        _print(comparison, _MAX_ROWS if not show_all else len(comparison.groups))


def _print(comparison: Comparison, num_rows: int) -> None:
    from cli.output import Column, duration, say, say_table
    from dqnkit._system.text import short_names
    from dqnkit.evaluation.formatting import format_interval, format_number
    from dqnkit.tracking.names import COMPARISONS, Metric

    groups = comparison.groups[:num_rows]
    left = len(comparison.groups) - len(groups)
    keys = list(groups[0].params)
    names = short_names(keys)
    values = {key: _shorten([group.params[key] for group in groups]) for key in keys}
    # Many parameters get a table of their own, with a column for each group.
    is_beside = len(keys) <= _MAX_BESIDE or len(groups) > _MAX_LETTERS
    beside = keys if is_beside else []
    is_search = comparison.sorted_by == Metric.LATE_IQM
    columns = [
        Column("runs", left=True),
        *(Column(names[key], left=True) for key in beside),
        *([Column("value")] if is_search else []),
        Column("score (95 % interval)"),
        Column("sample"),
        Column("best", spare=2),
        Column("steps/s", spare=4),
        Column("time", spare=3),
        Column("status", left=True, spare=1),
    ]
    rows = [
        [
            group.label,
            *(values[key][place] for key in beside),
            *([format_number(group.median(Metric.LATE_IQM))] if is_search else []),
            format_interval(*(group.score or (None, None, None))),
            group.sample_of,
            format_number(group.median(Metric.BEST_MEAN)),
            format_number(group.median(Metric.STEPS_PER_SECOND), whole=True),
            duration(group.median(Metric.TRAINING_SECONDS)),
            group.state,
        ]
        for place, group in enumerate(groups)
    ]
    say_table(columns, rows)
    if left:
        say(f"{left} more (--all)")
    if not beside and keys:
        say("")
        letters = [Column(group.letter, left=True) for group in groups]
        differences = [[key, *values[key]] for key in keys]
        say_table([Column("parameter", left=True, wraps=False), *letters], differences)
    say("")
    if comparison.improvement is not None:
        value, low, high = comparison.improvement
        say(
            f"probability that A is above B: {value:.2f} (95 % interval {low:.2f} to {high:.2f}), "
            f"over {comparison.improvement_over}"
        )
    for path in comparison.files:
        say(f"{'file':<8}{path}")
    if comparison.run_id is not None:
        say(f"{'run':<8}{comparison.run_id}, in MLflow's experiment {COMPARISONS!r}")


def _shorten(values: Sequence[str]) -> list[str]:
    """Round the floating-point numbers among a parameter's values to three significant digits.

    Few values get as many digits as tell them apart; among many, some may look alike.
    """
    digits = (3,) if len(values) > _MAX_LETTERS else (3, 4, 6)
    for count in digits:
        short = [
            f"{float(each):.{count}g}" if _DECIMAL.fullmatch(each) else each for each in values
        ]
        if len(set(short)) == len(set(values)) or len(digits) == 1:
            return short
    return list(values)
