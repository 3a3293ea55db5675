from __future__ import annotations

from io import StringIO

import pytest
from dqnkit.workers.messages import Advanced, Began, Died, Evaluated, Ready, Task
from rich.console import Console

from cli.displays.search import LiveTuneReporter, PlainTuneReporter
from cli.displays.workers import WorkerTable, clock, short_values
from dqnkit.config import loading
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.tuning.standing import Standing, TrialScore

CONFIG = loading.default_config("shown", ["training.num_iterations=1000"])
VALUES = {"optimizer.learning_rate": 0.00025, "network.fc_layer_params": [64, 32]}
EVALUATION = Evaluation(returns=(1.0, 2.0), lengths=(1, 2), iteration=500, env_steps=500)


def _shown(renderable: object, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_row_says_what_a_worker_does() -> None:
    table = WorkerTable(2)
    assert _shown(table).count("loading") == 2
    table.heard(0, Ready())
    assert "idle" in _shown(table)
    table.given(0, Task(CONFIG, "a-run"), "trial 7", short_values(VALUES))
    assert "compiling" in _shown(table)
    table.heard(0, Began("id"))
    table.heard(0, Advanced(500, 500, 12_345.0))
    table.heard(0, Evaluated(EVALUATION, EVALUATION, asks=False))
    text = _shown(table)
    for part in ("trial 7", "12,345", "1.5", "learning_rate=2.50e-04 fc_layer_params=[64, 32]"):
        assert part in text
    table.heard(0, Died("id", "signal 9"))
    assert "trial 7" not in _shown(table)
    # Where the terminal is narrow, the values give way and not the score.
    table.given(1, Task(CONFIG, "a-run"), "trial 8", short_values(VALUES))
    table.heard(1, Began("id"))
    table.heard(1, Evaluated(EVALUATION, EVALUATION, asks=False))
    assert "1.5" in _shown(table, 60)


def test_values_are_called_by_the_whole_key_where_a_part_would_be_of_two() -> None:
    values = {"agent.kind": "c51", "replay.kind": "uniform", "agent.n_step": 3}
    assert short_values(values) == "agent.kind=c51 replay.kind=uniform n_step=3"


def _standing(complete: int) -> Standing:
    best = TrialScore(2, 480.0, VALUES) if complete else None
    return Standing(total=10, complete=complete, pruned=1, failed=0, best=best)


def test_the_live_display_shows_counts_best_and_what_was_told() -> None:
    live = LiveTuneReporter()
    assert "dqnkit tune" in _shown(live)
    live.began("my-study", "shown", 2, _standing(0))
    live.chose("run-1", 4, VALUES)
    live.given(0, Task(CONFIG, "run-1"))
    live.ended(2, "complete", 480.0, _standing(3))
    live.told("trial 5 failed, it is tried again: signal 9")
    text = _shown(live)
    for part in (
        "my-study",
        "4/10 trials",
        "3 complete, 1 pruned",
        "480.0",
        "trial 2",
        "trial 4",
        "signal 9",
        "left",
    ):
        assert part in text
    live.confirming([TrialScore(2, 480.0, VALUES)], (1, 2, 3, 4, 5), 5)
    live.given(1, Task(CONFIG.with_seed(3), "my-study-confirms-t002-s3"))
    text = _shown(live)
    assert "confirming trial 2 on fresh seeds 1 to 5" in text
    assert "0/5 runs" in text
    assert "trial 2, seed 3" in text


def test_plain_lines_say_what_ended(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainTuneReporter()
    plain.began("my-study", "shown", 2, _standing(4))
    plain.ended(6, "pruned", 9.3, _standing(4))
    plain.ended(7, "failed", None, _standing(4))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "shown · study my-study · 2 workers · goes on after 5 trials"
    words = [" ".join(line.split()) for line in lines]
    assert words[1] == "trial 6 pruned 9.3 5/10 best 480.0 by trial 2"
    assert words[2] == "trial 7 failed - 5/10 best 480.0 by trial 2"


def test_times_and_values_are_short() -> None:
    assert clock(125.0) == "2:05"
    assert short_values({"a.b": 0.123456, "c": "x", "d.e": 3}) == "b=1.23e-01 c=x e=3"
