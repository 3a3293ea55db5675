from __future__ import annotations

import json

import numpy as np
import pytest

from dqnkit.evaluation.aggregates import bootstrap_interval
from dqnkit.evaluation.episodes import (
    LATE_EVALUATIONS,
    Episodes,
    Evaluation,
    late_episodes,
    markdown_summary,
)

EPISODES = Episodes(returns=(1.0, 2.0, 3.0, 10.0), lengths=(5, 6, 7, 22))


def _evaluation(number: int) -> Evaluation:
    returns = (float(number), number + 0.5)
    lengths = (number, number + 10)
    return Evaluation(returns=returns, lengths=lengths, iteration=number, env_steps=10 * number)


def test_summary_and_interval_are_those_of_the_returns() -> None:
    assert (EPISODES.summary.n, EPISODES.summary.mean, EPISODES.summary.iqm) == (4, 4.0, 2.5)
    assert EPISODES.interval == bootstrap_interval(np.array(EPISODES.returns))
    assert EPISODES.interval is EPISODES.interval  # the bootstrap runs once


def test_statistics_are_a_json_object() -> None:
    statistics = json.loads(json.dumps(EPISODES.statistics()))
    low, high = EPISODES.interval
    assert statistics == {
        "n": 4,
        "mean": 4.0,
        "std": pytest.approx(np.std(EPISODES.returns)),
        "min": 1.0,
        "max": 10.0,
        "median": 2.5,
        "iqm": 2.5,
        "ci_low": low,
        "ci_high": high,
    }


def test_every_episode_as_a_json_object() -> None:
    assert EPISODES.as_dict() == {"returns": [1.0, 2.0, 3.0, 10.0], "lengths": [5, 6, 7, 22]}
    evaluation = _evaluation(3)
    assert evaluation.as_dict() == {
        "iteration": 3,
        "env_steps": 30,
        "returns": [3.0, 3.5],
        "lengths": [3, 13],
    }
    assert list(evaluation.as_dict()) == ["iteration", "env_steps", "returns", "lengths"]


def test_late_episodes_are_those_of_the_last_evaluations() -> None:
    late = late_episodes([_evaluation(number) for number in range(8)])
    assert len(late.returns) == len(late.lengths) == 2 * LATE_EVALUATIONS
    assert late.returns == (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5)
    assert late.lengths == (3, 13, 4, 14, 5, 15, 6, 16, 7, 17)


def test_evaluation_before_training_counts_only_if_it_is_alone() -> None:
    assert late_episodes([_evaluation(0), _evaluation(1)]).returns == (1.0, 1.5)
    assert late_episodes([_evaluation(0)]).returns == (0.0, 0.5)


def test_markdown_of_a_summary() -> None:
    second = Episodes(returns=(0.25, 9.0, 12.5, 1234.5, -3.0), lengths=(1,) * 5)
    rows = {"best, at step 41,000": EPISODES, "fresh episodes": second}
    assert markdown_summary(rows, without_interval={"best, at step 41,000"}).splitlines() == [
        "| | episodes | mean | std | min | max | IQM (95 % interval) |",
        "|---|---|---|---|---|---|---|",
        "| best, at step 41,000 | 4 | 4 | 3.54 | 1 | 10.0 | 2.5 |",
        "| fresh episodes | 5 | 250.7 | 492.0 | -3 | 1,234.5 | 7.42 (-2.02 to 867.9) |",
    ]
    # The table of an evaluation by `dqnkit eval`.
    trained = Episodes(returns=(1.0, 2.0, 3.5), lengths=(1, 2, 3))
    random = Episodes(returns=(0.0, 2.0, -1.5), lengths=(1, 2, 3))
    assert markdown_summary({"trained": trained, "random": random}) == (
        "| | episodes | mean | std | min | max | IQM (95 % interval) |\n"
        "|---|---|---|---|---|---|---|\n"
        "| trained | 3 | 2.17 | 1.03 | 1 | 3.5 | 2.08 (1 to 3.5) |\n"
        "| random | 3 | 0.167 | 1.43 | -1.5 | 2 | 0.0833 (-1.5 to 2) |"
    )


def test_interval_is_not_computed_where_it_is_left_out() -> None:
    episodes = Episodes(returns=(1.0, 2.0), lengths=(1, 1))
    assert "to" not in markdown_summary({"a": episodes}, without_interval=["a"]).splitlines()[-1]
    assert "interval" not in vars(episodes)


def test_a_single_episode_has_no_interval() -> None:
    single = Episodes(returns=(2.05,), lengths=(3,))
    assert single.interval is None
    assert (single.statistics()["ci_low"], single.statistics()["mean"]) == (None, 2.05)
    assert " to " not in markdown_summary({"a": single}).splitlines()[-1]
