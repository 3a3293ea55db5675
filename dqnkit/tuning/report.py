"""Reports of a search: YAML of the winner, CSV files, and Markdown descriptions."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import LATE_EVALUATIONS
from dqnkit.evaluation.formatting import format_interval, format_number, markdown_table
from dqnkit.tuning.attributes import TrialAttr
from dqnkit.tuning.confirmed_trial import ConfirmedTrial, fresh_seeds, is_overturned
from dqnkit.tuning.definition import StudyDefinition
from dqnkit.tuning.space import describe
from dqnkit.tuning.standing import Standing, TrialScore
from dqnkit.tuning.study import SharedStudy


def winner_yaml(config: Config, study: SharedStudy, confirmed: Sequence[ConfirmedTrial]) -> str:
    """Return the winner as YAML for `dqnkit train`, with its scores in comments."""
    definition = study.definition
    lines = [f"# Winner of the study {study.name} (search seeds: {_search_seeds(definition)})."]
    if confirmed:
        best = confirmed[0]
        seeds = ", ".join(str(each.seed) for each in best.results)
        lines += [
            f"# Trial {best.trial.number}: {format_number(best.trial.value)} in the search; "
            f"{format_interval(*best.score)} over {best.scores.n} fresh seeds ({seeds}).",
            "# Its seed repeats the champion's run. The first unused seed is "
            f"{first_unused_seed(definition)}.",
        ]
    else:
        lines.append("# Not confirmed with other seeds: its score in the search is optimistic.")
    return "\n".join([*lines, loading.dump(config)])


def first_unused_seed(definition: StudyDefinition) -> int:
    """Return the first seed that neither the search nor its confirmation uses."""
    return fresh_seeds(definition.config, definition.seeds_per_trial)[-1] + 1


def write_trials(study: SharedStudy, path: Path) -> None:
    """Write a CSV file with one row per trial."""
    trials = study.trials()
    params = sorted({name for trial in trials for name in trial.params})
    header = ["trial", "state", "value", "mean", *params, "seconds", "run_id", "cause"]
    _write_csv(path, header, (_trial_row(trial, params) for trial in trials))


def write_confirmed(confirmed: Sequence[ConfirmedTrial], path: Path) -> None:
    """Write a CSV file with one row per confirmed trial, best first."""
    header = ["trial", "search_value", "confirmed_iqm", "ci_low", "ci_high", "seeds"]
    rows = ([each.trial.number, each.trial.value, *each.score, each.scores.n] for each in confirmed)
    _write_csv(path, header, rows)


def opening(definition: StudyDefinition) -> str:
    """Return the Markdown shown with a study while it searches."""
    config = definition.config
    seeds = "1 seed" if definition.seeds_per_trial == 1 else f"{definition.seeds_per_trial} seeds"
    space = [[f"`{key}`", describe(each)] for key, each in definition.space.distributions.items()]
    text = [config.description] if config.description else []
    text += [
        f"Search for a better DQN on **{config.env.id}**.",
        markdown_table(["key", "search space"], space),
        "The value of a trial is the interquartile mean (IQM) of the episodes of its last "
        f"{LATE_EVALUATIONS} evaluations, over {seeds} ({_search_seeds(definition)}).",
    ]
    return "\n\n".join(text)


def summary(
    definition: StudyDefinition,
    standing: Standing,
    confirmed: Sequence[ConfirmedTrial],
    *,
    has_winner: bool,
) -> str:
    """Return the Markdown shown with a study that has ended, with or without a winner."""
    text = [
        opening(definition),
        f"{standing.complete} trials complete, {standing.pruned} pruned, {standing.failed} failed.",
    ]
    if standing.best is not None:
        text.append(f"Best of the search: {describe_trial(standing.best)}.")
    if confirmed:
        text.append(_confirmed_table(confirmed))
        if is_overturned(standing.best, confirmed):
            text.append("Fresh seeds overturned the order of the search.")
    if has_winner:
        text.append(
            "`best.yaml` is the winner: `dqnkit train best.yaml` repeats it. `trials.csv` lists "
            "all trials, and `search.html` has interactive figures."
        )
    return "\n\n".join(text)


def describe_trial(trial: TrialScore) -> str:
    """Return number, value and configuration values of a trial in one line."""
    values = ", ".join(f"{key}={_rounded(value)}" for key, value in trial.values.items())
    return f"trial {trial.number} with {format_number(trial.value)} ({values})"


def _confirmed_table(confirmed: Sequence[ConfirmedTrial]) -> str:
    header = [
        "trial",
        "search",
        "confirmed: IQM (95 % interval)",
        "best policies",
        "fresh seeds",
    ]
    rows = [
        [
            str(each.trial.number),
            format_number(each.trial.value),
            format_interval(*each.score),
            format_interval(*each.scores.final),
            str(each.scores.n),
        ]
        for each in confirmed
    ]
    return markdown_table(header, rows)


def _trial_row(trial: FrozenTrial, params: Sequence[str]) -> list[Any]:
    """Return the cells of a trial; those without a value are empty."""
    return [
        trial.number,
        trial.state.name.lower(),
        "" if trial.value is None else trial.value,
        trial.user_attrs.get(TrialAttr.MEAN, ""),
        *(trial.params.get(name, "") for name in params),
        trial.duration.total_seconds() if trial.duration else "",
        trial.user_attrs.get(TrialAttr.RUN_ID, ""),
        trial.user_attrs.get(TrialAttr.CAUSE, ""),
    ]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _search_seeds(definition: StudyDefinition) -> str:
    first, count = definition.config.training.seed, definition.seeds_per_trial
    return str(first) if count == 1 else f"{first} to {first + count - 1}"


def _rounded(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
