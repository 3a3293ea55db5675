"""Reports of a search: YAML of the winner, CSV files and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import LATE_EVALUATIONS
from dqnkit.evaluation.formatting import format_interval, format_number
from dqnkit.tuning.confirmed import Confirmed, fresh_seeds, overturned
from dqnkit.tuning.space import describe
from dqnkit.tuning.standing import Standing, TrialScore
from dqnkit.tuning.study import CAUSE, MEAN, RUN, SharedStudy, StudyDefinition


def explained_winner(config: Config, study: SharedStudy, confirmed: Sequence[Confirmed]) -> str:
    """Return the winner as YAML for `dqnkit train`, with its scores in comments."""
    definition = study.definition
    search = _seeds(definition.config.training.seed, definition.seeds_per_trial)
    lines = [f"# Winner of the study {study.name} (search seeds: {search})."]
    if confirmed:
        best = confirmed[0]
        seeds = ", ".join(str(each.seed) for each in best.results)
        lines += [
            f"# Trial {best.trial.number}: {format_number(best.trial.value)} in the search; "
            f"{format_interval(*best.score)} over {best.scores.n} fresh seeds ({seeds}).",
            f"# Its seed repeats the champion's run. The first unused seed is {fresh_seed(definition)}.",
        ]
    else:
        lines.append("# Not confirmed on other seeds: its score in the search flatters.")
    return "\n".join([*lines, loading.dump(config)])


def fresh_seed(definition: StudyDefinition) -> int:
    """The first seed that neither the search nor its confirmation uses."""
    return fresh_seeds(definition.config, definition.seeds_per_trial)[-1] + 1


def write_trials(study: SharedStudy, path: Path) -> None:
    """Writes a CSV of all trials, a row each."""
    trials = study.trials()
    params = sorted({name for trial in trials for name in trial.params})
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["trial", "state", "value", "mean", *params, "seconds", "run_id", "cause"])
        for trial in trials:
            seconds = trial.duration.total_seconds() if trial.duration else ""
            rows.writerow(
                [
                    trial.number,
                    trial.state.name.lower(),
                    "" if trial.value is None else trial.value,
                    trial.user_attrs.get(MEAN, ""),
                    *(trial.params.get(name, "") for name in params),
                    seconds,
                    trial.user_attrs.get(RUN, ""),
                    trial.user_attrs.get(CAUSE, ""),
                ]
            )


def write_confirmed(confirmed: Sequence[Confirmed], path: Path) -> None:
    """Writes a CSV of the candidates, the best first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["trial", "search_value", "confirmed_iqm", "ci_low", "ci_high", "seeds"])
        for each in confirmed:
            rows.writerow([each.trial.number, each.trial.value, *each.score, each.scores.n])


def opening(definition: StudyDefinition) -> str:
    """Markdown shown with a study while it searches."""
    config = definition.config
    seeds = _seeds(config.training.seed, definition.seeds_per_trial)
    searched = [f"| `{k}` | {describe(d)} |" for k, d in definition.space.distributions.items()]
    text = [config.description] if config.description else []
    text += [
        f"Search for a better DQN on **{config.env.id}**.",
        "\n".join(["| searched | |", "|---|---|", *searched]),
        f"The value of a trial is the interquartile mean (IQM) of the episodes of its last "
        f"{LATE_EVALUATIONS} evaluations, over {_counted(definition.seeds_per_trial)} ({seeds}).",
    ]
    return "\n\n".join(text)


def summary(
    definition: StudyDefinition,
    standing: Standing,
    confirmed: Sequence[Confirmed],
    *,
    has_winner: bool,
) -> str:
    """Markdown shown with a study that has ended, with a winner or without."""
    text = [
        opening(definition),
        f"{standing.complete} trials complete, {standing.pruned} pruned, {standing.failed} failed.",
    ]
    if standing.best is not None:
        text.append(f"Best of the search: {trial_words(standing.best)}.")
    if confirmed:
        rows = [
            f"| {each.trial.number} | {format_number(each.trial.value)} | {format_interval(*each.score)} | "
            f"{format_interval(*each.scores.final)} | {each.scores.n} |"
            for each in confirmed
        ]
        head = [
            "| trial | search | confirmed: IQM (95 % interval) | its best policies | fresh seeds |",
            "|---|---|---|---|---|",
        ]
        text.append("\n".join([*head, *rows]))
        if overturned(standing.best, confirmed):
            text.append("Fresh seeds overturned the order of the search.")
    if has_winner:
        text.append(
            "`best.yaml` is the winner: `dqnkit train best.yaml` repeats it. `trials.csv` has all "
            "trials, `search.html` the pictures that answer to the mouse."
        )
    return "\n\n".join(text)


def trial_words(trial: TrialScore) -> str:
    """A trial in a few words."""
    values = ", ".join(f"{key}={_rounded(value)}" for key, value in trial.values.items())
    return f"trial {trial.number} with {format_number(trial.value)} ({values})"


def _rounded(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _counted(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _seeds(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first} to {first + count - 1}"
