"""`dqnkit eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import options

if TYPE_CHECKING:
    from dqnkit.analysis.policy_evaluation import PolicyEvaluation


def evaluate(
    run: options.Policy,
    episodes: Annotated[int, typer.Option(metavar="N", help="Number of episodes.")] = 100,
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Seed of the episodes, none of which training has played."),
    ] = 0,
    baseline: options.Baseline = None,
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a trained policy on greedy episodes, and add the score to its run."""
    from cli import output
    from dqnkit.analysis.policy_evaluation import evaluate as run_evaluation

    with (
        output.reserve_stdout(as_json=as_json),
        output.waiting("playing episodes", shown=not quiet),
    ):
        evaluation = run_evaluation(
            run,
            episodes,
            seed=seed,
            baseline=baseline,
            tracking_uri=tracking_uri,
        )
    output.warn(evaluation.problems)
    if as_json:
        output.say_document(evaluation.as_dict())
    elif not quiet:
        _print(evaluation)


def _print(evaluation: PolicyEvaluation) -> None:
    from cli.output import Column, say, say_table
    from dqnkit.evaluation.formatting import format_interval, format_number

    say(f"{evaluation.label} · {evaluation.env_id} · seed {evaluation.seed}")
    rows = []
    for name, played in (("trained", evaluation.trained), ("random", evaluation.random)):
        if played is None:
            continue
        summary, (low, high) = played.summary, played.interval or (None, None)
        rows.append(
            [
                name,
                f"{summary.n:,}",
                f"{format_number(summary.mean)} ± {format_number(summary.std)}",
                format_number(summary.min),
                format_number(summary.median),
                format_number(summary.max),
                format_interval(summary.iqm, low, high),
                f"{min(played.lengths)} to {max(played.lengths)}",
                f"{played.seconds:.2f} s",
            ]
        )
    columns = [
        Column("policy", left=True),
        Column("episodes"),
        Column("mean ± std"),
        Column("min", spare=1),
        Column("median", spare=2),
        Column("max", spare=1),
        Column("IQM (95 % interval)"),
        Column("steps", spare=3),
        Column("time", spare=4),
    ]
    say_table(columns, rows)
    if evaluation.difference is not None:
        value, low, high = evaluation.difference
        say(f"difference of the IQMs: {format_interval(value, low, high)}")
    if evaluation.run is None:
        say("not recorded: the policy belongs to no run of the store")
    elif evaluation.is_recorded:
        say(f"recorded in the run {evaluation.run.label} under final/")
