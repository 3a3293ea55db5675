from __future__ import annotations

import json

import pytest

from cli.displays.seeds import LiveSeeds, displayed, print_result, print_seed
from dqnkit.config import loading
from dqnkit.events import (
    RunAssigned,
    SeedEnded,
    SeedsStarted,
    Warned,
    WorkerEvent,
    WorkerReady,
)
from dqnkit.workers.seed_group import SeedResult, aggregate
from dqnkit.workers.seeds import SeedsResult
from tests.cli.displays.screen import shown

CONFIG = loading.default_config("mine", ["training.seed=3"])
STARTED = SeedsStarted(CONFIG, "mine-3-seeds-abcd", range(3, 6))


def _seed(seed: int, score: float) -> SeedResult:
    return SeedResult(seed, "id", score, score + 10, score + 20, 1_000.0, 75.0, ((0, 0.0),))


RESULTS = (_seed(3, 100.0), _seed(4, 110.0), _seed(5, 120.0))


def test_the_live_display_shows_workers_and_the_scores_so_far() -> None:
    live = LiveSeeds()
    assert shown(live) == "dqnkit train\n"
    live(STARTED)
    live(WorkerEvent(0, WorkerReady()))
    live(RunAssigned(1, CONFIG.with_seed(4), "a-run"))
    lines = shown(live, 100).splitlines()
    assert lines[0] == ("mine · CartPole-v1 · auto loop · seeds 3 to 5  run mine-3-seeds-abcd")
    assert lines[1].rstrip() == "0/3 seeds"
    assert lines[2].split() == ["worker", "run", "progress", "steps/s", "score"]
    assert lines[3].split() == ["0", "idle"]
    assert lines[4].split() == ["1", "seed", "4", "compiling"]
    live(SeedEnded(RESULTS[1]))
    live(SeedEnded(RESULTS[0]))
    assert shown(live).splitlines()[1].rstrip() == (
        "2/3 seeds  last evaluations, IQM  110.0 (seed 4), 100.0 (seed 3)"
    )


def test_plain_lines_show_every_seed(capsys: pytest.CaptureFixture[str]) -> None:
    with displayed(as_json=False, quiet=False) as listener:
        assert listener is print_seed
        listener(STARTED)
        listener(SeedEnded(RESULTS[0]))
    assert capsys.readouterr().out.splitlines() == [
        "mine · CartPole-v1 · auto loop · seeds 3 to 5  run mine-3-seeds-abcd",
        "seed    3  last evaluations    100.0  best policy    110.0  1 min 15 s",
    ]


def test_warnings_of_workers_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_seed(WorkerEvent(0, Warned("actor 0 is replaced")))
    LiveSeeds()(Warned("look here"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        "warning: actor 0 is replaced\nwarning: look here\n",
    )


def _result(run_id: str | None = "0123") -> SeedsResult:
    return SeedsResult(
        experiment="mine",
        run_name="mine-3-seeds-abcd",
        run_id=run_id,
        seeds=RESULTS,
        scores=aggregate(RESULTS),
        seconds=3_700.0,
        hints={"show it": "dqnkit ui"},
        problems=["mine-s4 is trained again: signal 9"],
    )


def test_the_result_is_a_table_of_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(_result(), as_json=False, quiet=False)
    captured = capsys.readouterr()
    assert captured.err == "warning: mine-s4 is trained again: signal 9\n"
    assert captured.out.splitlines() == [
        "      seed   last evaluations, IQM       best policy, mean",
        "         3                   100.0                   110.0",
        "         4                   110.0                   120.0",
        "         5                   120.0                   130.0",
        "IQM over 3  110.0 (100.0 to 120.0)  120.0 (110.0 to 130.0)",
        "",
        "time       1 h 01 min",
        "run        mine-3-seeds-abcd (0123)",
        "show it    dqnkit ui",
    ]


def test_a_quiet_result_is_empty_and_json_is_a_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(_result(None), as_json=False, quiet=True)
    assert capsys.readouterr().out == ""
    print_result(_result(None), as_json=True, quiet=False)
    document = json.loads(capsys.readouterr().out)
    assert document["scores"]["late"]["value"] == pytest.approx(110.0)
    assert [each["seed"] for each in document["seeds"]] == [3, 4, 5]
