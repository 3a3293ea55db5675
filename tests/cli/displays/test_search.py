from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cli.displays.search import LiveSearch, displayed, print_result, print_search
from dqnkit.config import loading
from dqnkit.events import (
    ConfirmationStarted,
    RunAssigned,
    RunFailed,
    SearchStarted,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkerEvent,
)
from dqnkit.tuning.confirmed_trial import ConfirmedTrial
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.standing import Standing, TrialScore
from dqnkit.workers.seed_group import SeedResult, aggregate
from tests.cli.displays.screen import shown

CONFIG = loading.default_config("shown", ["training.num_iterations=1000"])
VALUES = {"optimizer.learning_rate": 0.00025, "network.fc_layer_params": [64, 32]}
BEST = TrialScore(2, 480.0, VALUES)


def _standing(complete: int) -> Standing:
    best = BEST if complete else None
    return Standing(total=10, complete=complete, pruned=1, failed=0, best=best)


def _started(complete: int) -> SearchStarted:
    return SearchStarted("my-study", "shown", 2, _standing(complete))


def test_the_live_display_shows_counts_the_best_trial_and_workers() -> None:
    live = LiveSearch()
    assert shown(live) == "dqnkit tune\n"
    live(_started(0))
    assert "best so far  -" in shown(live)
    live(TrialStarted("run-1", 4, VALUES))
    live(RunAssigned(0, CONFIG, "run-1"))
    live(TrialEnded(2, "complete", 480.0, _standing(3)))
    live(Warned("trial 5 failed, it is repeated: http://me:swordfish@host"))
    text = shown(live)
    for part in (
        *("shown · study my-study · 2 workers", "4/10 trials", "3 complete, 1 pruned, 0 failed"),
        *("best so far  480.0  trial 2  learning_rate=2.50e-04", "trial 4", "left"),
        "warning: trial 5 failed, it is repeated: http://host",
    ):
        assert part in text


def test_the_live_display_counts_the_runs_of_the_confirmation() -> None:
    live = LiveSearch()
    live(_started(9))
    live(ConfirmationStarted([BEST], (1, 2, 3, 4, 5), 5))
    live(RunAssigned(1, CONFIG.with_seed(3), "my-study-confirms-t002-s3"))
    text = shown(live)
    assert "confirming trial 2 on fresh seeds 1 to 5" in text
    assert "0/5 runs" in text
    assert "trial 2, seed 3" in text
    live(WorkerEvent(1, RunFailed("id", "signal 9", retryable=True)))
    assert "0/5 runs" in shown(live)


def test_only_the_latest_warnings_are_shown() -> None:
    live = LiveSearch()
    live(_started(0))
    for number in range(7):
        live(Warned(f"number {number}"))
    assert [f"number {number}" in shown(live) for number in (1, 2, 6)] == [False, True, True]


def test_plain_lines_show_every_trial(capsys: pytest.CaptureFixture[str]) -> None:
    with displayed(as_json=False, quiet=False) as listener:
        assert listener is print_search
        listener(_started(4))
        listener(TrialEnded(6, "pruned", 9.3, _standing(4)))
        listener(TrialEnded(7, "failed", None, _standing(0)))
        listener(Warned("waiting for trials of http://me:swordfish@host"))
        listener(ConfirmationStarted([BEST, replace(BEST, number=4)], (1, 2), 4))
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "shown · study my-study · 2 workers · continues after 5 trials",
        "trial 6 pruned 9.3 5/10 best 480.0 by trial 2",
        "trial 7 failed - 1/10",
        "waiting for trials of http://host",
        "confirming trials 2, 4 on fresh seeds 1 to 2",
    ]


def _confirmed(number: int, score: float) -> ConfirmedTrial:
    results = tuple(
        SeedResult(seed, "id", score, score + 1, score + 2, 1.0, 1.0, ()) for seed in (1, 2)
    )
    trial = TrialScore(number, 480.0, VALUES)
    return ConfirmedTrial(trial, CONFIG, results, aggregate(results))


def _result(**changes: Any) -> TuneResult:
    result = TuneResult(
        study="my-study",
        experiment="shown",
        env_id="CartPole-v1",
        run_id="0123",
        standing=_standing(9),
        confirmed=(_confirmed(2, 470.0), _confirmed(4, 400.0)),
        winner=CONFIG,
        model="models:/shown@champion",
        fresh_seed=6,
        seconds=90.0,
        search_seconds=60.0,
        hints={"repeat": "dqnkit train --from-study my-study"},
        problems=["trial 5 failed"],
    )
    return replace(result, **changes)


def test_the_result_shows_the_winner_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(_result(), as_json=False, quiet=False)
    captured = capsys.readouterr()
    assert captured.err == "warning: trial 5 failed\n"
    lines = captured.out.splitlines()
    values = "learning_rate=2.50e-04 fc_layer_params=[64, 32]"
    assert lines[:2] == [
        "study my-study · shown · CartPole-v1: 9 complete, 1 pruned, 0 failed, of 10",
        f"best of the search: 480.0 by trial 2 ({values})",
    ]
    assert lines[3].split("  ")[0] == "trial"
    assert " ".join(lines[4].split()) == (
        f"2 480.0 470.0 (470.0 to 470.0) 2 471.0 (471.0 to 471.0) {values}"
    )
    assert lines[6:] == [
        "trial 2 wins, on seeds that the search has not used",
        "",
        "time       1 min 30 s, search 1 min 00 s",
        "model      models:/shown@champion",
        "run        my-study (0123)",
        "repeat     dqnkit train --from-study my-study",
        "new seeds  dqnkit train --from-study my-study --seed 6 --seeds 5",
    ]


def test_an_overturned_or_unconfirmed_order_is_pointed_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    confirmed = (_confirmed(4, 470.0), _confirmed(2, 400.0))
    print_result(_result(confirmed=confirmed), as_json=False, quiet=False)
    assert "overturned the order of the search: trial 4 wins" in capsys.readouterr().out
    print_result(_result(confirmed=(), model=None, run_id=None), as_json=False, quiet=False)
    out = capsys.readouterr().out
    assert "winner     not confirmed on other seeds" in out
    assert "model" not in out


def test_a_quiet_result_is_empty_and_json_is_a_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(_result(), as_json=False, quiet=True)
    assert capsys.readouterr().out == ""
    print_result(_result(), as_json=True, quiet=False)
    document = json.loads(capsys.readouterr().out)
    assert (document["trials"]["complete"], document["fresh_seed"]) == (9, 6)
