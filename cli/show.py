"""`dqnkit show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dqnkit.analysis.run_summary import RunSummary


def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help=f"{options.RUN_HELP}.", show_default=False)
    ] = "latest",
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
) -> None:
    """Show one run: its scores, what differs from its experiment, its files, and what next."""
    from cli import output
    from dqnkit.analysis.run_summary import summarize

    with output.waiting("reading the run", shown=True):
        summary = summarize(run, tracking_uri=tracking_uri)
    output.warn([summary.problem] if summary.problem else [])
    if as_json:
        output.say_document(summary.as_dict())
        return
    for label, text in _lines(summary):
        output.say(f"{label:<12}{text}".rstrip())


def _lines(summary: RunSummary) -> Iterator[tuple[str, str]]:
    from cli.output import ago, duration
    from dqnkit.evaluation.formatting import format_interval, format_number
    from dqnkit.tracking.names import Metric, Tag

    run, metrics = summary.run, summary.run.metrics
    yield "run", f"{run.name} ({run.id})"
    yield "experiment", " · ".join(filter(None, [run.experiment, run.env]))
    state = run.tags.get(Tag.TRIAL_STATE, run.status.lower())
    yield "status", f"{state}, {duration(run.seconds)}, started {ago(run.started)}"
    for label, names in (
        ("score", (Metric.FINAL_IQM, Metric.FINAL_LOW, Metric.FINAL_HIGH)),
        ("late", (Metric.LATE_IQM, Metric.LATE_LOW, Metric.LATE_HIGH)),
    ):
        if names[0] in metrics:
            value = format_interval(*map(metrics.get, names))
            meaning = "best policy, IQM" if label == "score" else "last evaluations, IQM"
            yield label, f"{value}  ({meaning})"
    if Metric.STEPS_PER_SECOND in metrics:
        rate = format_number(metrics[Metric.STEPS_PER_SECOND], whole=True)
        yield "speed", f"{rate} environment steps a second"
    yield from _search(summary)
    if "training.seed" in run.params:
        yield "seed", run.params["training.seed"]
    if run.params:  # comparisons have none
        yield from _settings(summary)
    if summary.files:
        yield "files", ", ".join(summary.files)
    if Tag.COMMAND in run.tags:
        yield "made by", run.tags[Tag.COMMAND]
    yield from _next(summary)


def _search(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield how far a study is, and what it has found."""
    from dqnkit.evaluation.formatting import format_interval, format_number
    from dqnkit.tracking.names import STUDY

    found = {
        name.removeprefix(f"{STUDY}/"): value
        for name, value in summary.run.metrics.items()
        if name.startswith(f"{STUDY}/")
    }
    if "complete" in found:
        states = ("complete", "pruned", "failed")
        yield "trials", ", ".join(f"{found.get(state, 0):.0f} {state}" for state in states)
    if "best_value" in found:
        yield "best", f"{format_number(found['best_value'])}  (value of a trial in the search)"
    if "confirmed_iqm" in found:
        interval = map(found.get, ("confirmed_iqm", "confirmed_ci_low", "confirmed_ci_high"))
        yield "winner", f"{format_interval(*interval)}  (on fresh seeds, IQM)"


def _settings(summary: RunSummary) -> Iterator[tuple[str, str]]:
    usual = f"experiment {summary.preset}" if summary.preset else "defaults"
    label = "settings"
    if not summary.differences:
        yield label, f"those of the {usual}"
        return
    for key, (value, default) in summary.differences.items():
        yield label, f"{key}={value}  ({usual}: {default})"
        label = ""


def _next(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the commands that make sense now."""
    from dqnkit.tracking.names import Artifact, RunKind, Tag

    run, short = summary.run, summary.run.id[:8]
    line = summary.location.command_line
    commands = [line(f"ui {short}")]
    if run.tags.get(Tag.KIND) == RunKind.STUDY:
        study = run.tags.get(Tag.STUDY, run.name)
        commands = [
            line("ui", study=study),
            line("compare", study=study),
            line("train", from_study=study),
        ]
    if Artifact.POLICY in summary.files:
        commands = [line(f"render {short}"), line(f"eval {short}"), *commands]
    is_open = run.status in {"KILLED", "FAILED"}
    if is_open and run.tags.get(Tag.KIND) in {RunKind.TRAINING, RunKind.SEEDS}:
        commands = [line("train", resume=short), *commands]
    label = "next"
    for command in commands:
        yield label, command
        label = ""
