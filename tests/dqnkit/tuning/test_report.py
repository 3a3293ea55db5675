from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.tuning import report
from dqnkit.tuning.attributes import TrialAttr
from dqnkit.tuning.standing import Standing, TrialScore
from dqnkit.tuning.study import SharedStudy
from tests.dqnkit.tuning.helpers import ask, make_confirmed, make_definition

JournalStudy = Callable[..., SharedStudy]
BEST = TrialScore(1, 120.4, {"optimizer.learning_rate": 0.00123456, "training.batch_size": 64})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_winner_is_yaml_with_its_scores_in_comments(journal_study: JournalStudy) -> None:
    study = journal_study(seeds_per_trial=2)
    winner = study.definition.config.with_seed(3)
    confirmed = [make_confirmed(1, 120.4, [100.0, 110.0]), make_confirmed(0, 130.0, [90.0])]
    text = report.winner_yaml(winner, study, confirmed)
    assert text.startswith(
        "# Winner of the study searched-1 (search seeds: 0 to 1).\n"
        "# Trial 1: 120.4 in the search; 105.0 (100.0 to 110.0) over 2 fresh seeds (1, 2).\n"
        "# Its seed repeats the champion's run. The first unused seed is 7.\n"
    )
    assert loading.load_text(text, "best.yaml") == winner


def test_a_winner_that_is_not_confirmed_says_so(journal_study: JournalStudy) -> None:
    study = journal_study()
    text = report.winner_yaml(study.definition.config, study, [])
    assert "# Winner of the study searched-1 (search seeds: 0).\n# Not confirmed" in text
    assert loading.load_text(text, "best.yaml") == study.definition.config


@pytest.mark.parametrize(("seed", "seeds_per_trial", "first"), [(0, 1, 6), (10, 4, 19)])
def test_the_first_unused_seed_follows_search_and_confirmation(
    seed: int, seeds_per_trial: int, first: int
) -> None:
    definition = make_definition(f"training.seed={seed}", seeds_per_trial=seeds_per_trial)
    assert report.first_unused_seed(definition) == first


def test_trials_are_written_as_csv(journal_study: JournalStudy, tmp_path: Path) -> None:
    study = journal_study()
    complete, failed, running = ask(study), ask(study), ask(study)
    study.set_trial_attr(complete, TrialAttr.MEAN, 9.5)
    study.set_trial_attr(complete, TrialAttr.RUN_ID, "abc")
    study.tell(complete, 10.0)
    study.fail(failed.number, "the loss became nan")
    report.write_trials(study, tmp_path / "trials.csv")
    first, second, third = _rows(tmp_path / "trials.csv")
    assert (first["trial"], first["state"], first["value"]) == ("0", "complete", "10.0")
    assert (first["mean"], first["run_id"], first["cause"]) == ("9.5", "abc", "")
    assert first["optimizer.learning_rate"] == "0.001"
    assert float(first["seconds"]) >= 0
    assert (second["state"], second["value"]) == ("fail", "")
    assert second["cause"] == "the loss became nan"
    assert (third["trial"], third["state"], third["seconds"]) == (
        str(running.number),
        "running",
        "",
    )


def test_confirmed_trials_are_written_as_csv(tmp_path: Path) -> None:
    confirmed = [make_confirmed(4, 120.0, [100.0, 100.0]), make_confirmed(2, 130.0, [90.0])]
    report.write_confirmed(confirmed, tmp_path / "confirmation.csv")
    first, second = _rows(tmp_path / "confirmation.csv")
    assert first == {
        "trial": "4",
        "search_value": "120.0",
        "confirmed_iqm": "100.0",
        "ci_low": "100.0",
        "ci_high": "100.0",
        "seeds": "2",
    }
    assert (second["trial"], second["seeds"]) == ("2", "1")


def test_the_opening_describes_environment_space_and_value() -> None:
    definition = make_definition(
        "description=About it.",
        "search.agent.loss={type: categorical, choices: [squared, huber]}",
        seeds_per_trial=3,
    )
    text = report.opening(definition)
    assert text.startswith("About it.\n\nSearch for a better DQN on **CartPole-v1**.")
    assert '| `agent.loss` | one of "squared", "huber" |' in text
    assert "over 3 seeds (0 to 2)" in text
    assert "over 1 seed (0)" in report.opening(make_definition())


def test_the_summary_counts_trials_and_names_the_best() -> None:
    standing = Standing(10, 6, 3, 2, BEST)
    text = report.summary(make_definition(), standing, [], has_winner=False)
    assert "6 trials complete, 3 pruned, 2 failed." in text
    assert "Best of the search: trial 1 with 120.4 (optimizer.learning_rate=0.00123" in text
    assert "best.yaml" not in text


def test_the_summary_has_a_table_of_confirmed_trials() -> None:
    standing = Standing(10, 6, 3, 0, BEST)
    confirmed = [make_confirmed(4, 100.0, [99.0, 99.0]), make_confirmed(1, 120.4, [90.0])]
    text = report.summary(make_definition(), standing, confirmed, has_winner=True)
    assert "| 4 | 100.0 | 99.0 (99.0 to 99.0) | 99.0 (99.0 to 99.0) | 2 |" in text
    assert "Fresh seeds overturned the order of the search." in text
    assert "`dqnkit train best.yaml`" in text
    same = report.summary(make_definition(), standing, confirmed[1:], has_winner=True)
    assert "overturned" not in same


def test_a_trial_in_one_line() -> None:
    assert report.describe_trial(BEST) == (
        "trial 1 with 120.4 (optimizer.learning_rate=0.00123, training.batch_size=64)"
    )
