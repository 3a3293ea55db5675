from __future__ import annotations

from cli.displays.workers import WorkerTable, clock, short_values
from dqnkit.config import loading
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.events import (
    Evaluated,
    Event,
    Progress,
    RunAssigned,
    RunFailed,
    RunStarted,
    WorkerDied,
    WorkerEvent,
    WorkerReady,
    WorkerRetired,
)
from tests.cli.displays.screen import shown

CONFIG = loading.default_config("shown", ["training.num_iterations=1000"])
VALUES = {"optimizer.learning_rate": 0.00025, "network.fc_layer_params": [64, 32]}
EVALUATION = Evaluation(returns=(1.0, 2.0), lengths=(1, 2), iteration=500, env_steps=500)
EVALUATED = Evaluated(EVALUATION, EVALUATION, EVALUATION)


def _update(table: WorkerTable, worker: int, *events: Event) -> None:
    for event in events:
        table.update(WorkerEvent(worker, event))


def _row(table: WorkerTable, worker: int) -> list[str]:
    rows = [line.split() for line in shown(table).splitlines()]
    return next((row[1:] for row in rows if row[0] == str(worker)), [])


def test_a_row_shows_the_run_of_a_worker() -> None:
    table = WorkerTable(2)
    assert _row(table, 0) == _row(table, 1) == ["loading"]
    _update(table, 0, WorkerReady())
    assert _row(table, 0) == ["idle"]
    table.assign(RunAssigned(0, CONFIG, "a-run"), "trial 7", short_values(VALUES))
    assert _row(table, 0)[:3] == ["trial", "7", "compiling"]
    progress = Progress(500, 500, (), 12_345.0)
    _update(table, 0, RunStarted("id", 1.0, 0), progress, EVALUATED)
    text = shown(table)
    for part in ("trial 7", "12,345", "1.5", "learning_rate=2.50e-04 fc_layer_params=[64, 32]"):
        assert part in text
    _update(table, 0, RunFailed("id", "signal 9", retryable=True))
    assert _row(table, 0) == ["idle"]


def test_the_row_of_a_worker_that_ends_disappears() -> None:
    table = WorkerTable(2)
    _update(table, 0, WorkerDied("id", "signal 9"))
    _update(table, 1, WorkerRetired())
    assert _row(table, 0) == _row(table, 1) == []
    _update(table, 2, WorkerReady())
    assert _row(table, 2) == ["idle"]


def test_a_narrow_terminal_cuts_the_values_and_not_the_score() -> None:
    table = WorkerTable(1)
    table.assign(RunAssigned(0, CONFIG, "a-run"), "trial 8", short_values(VALUES))
    _update(table, 0, RunStarted("id", 1.0, 0), EVALUATED)
    text = shown(table, 60)
    assert "1.5" in text
    assert "[64, 32]" not in text


def test_without_values_there_is_no_column_for_them() -> None:
    table = WorkerTable(1)
    table.assign(RunAssigned(0, CONFIG, "a-run"), "seed 8")
    assert "values" not in shown(table)
    table.assign(RunAssigned(0, CONFIG, "a-run"), "trial 8", short_values(VALUES))
    assert "values" in shown(table)


def test_values_are_named_by_the_last_part_of_their_keys_if_it_is_unique() -> None:
    values = {"agent.kind": "c51", "replay.kind": "uniform", "agent.n_step": 3}
    assert short_values(values) == "agent.kind=c51 replay.kind=uniform n_step=3"


def test_times_and_values_are_short() -> None:
    assert clock(125.0) == "2:05"
    assert short_values({"a.b": 0.123456, "c": "x", "d.e": 3}) == "b=1.23e-01 c=x e=3"
