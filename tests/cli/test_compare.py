from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.compare import _shorten
from dqnkit.config import loading
from dqnkit.tracking.location import locate_store
from tests.cli.conftest import Run, assert_misused
from tests.runs import record

CHANGES = (
    *("agent.gamma=0.9", "agent.n_step=3"),
    *("optimizer.learning_rate=0.5", "training.batch_size=32"),
)


def _record(
    name: str, *changes: str, seed: int = 0, finals: tuple[float, ...] = (1.0, 2.0)
) -> None:
    config = loading.default_config("cartpole", [*changes, f"training.seed={seed}"])
    record(config, name=name, finals=finals, curve={0: [0.0], 100: list(finals)})


def test_parameters_that_differ_stand_beside_scores(run: Run) -> None:
    _record("one", finals=(8.0, 9.0))
    _record("two", "agent.gamma=0.9")
    code, out, err = run("compare", "one", "two", "-o", "out")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["runs", "gamma"]
    assert "score (95 % interval)" in lines[0]
    assert lines[0].index("sample") + len("sample") == lines[1].index("1 seed") + len("1 seed")
    assert lines[1].split()[:3] == ["A", "one", "0.99"]
    assert lines[2].split()[:3] == ["B", "two", "0.9"]
    assert "probability that A is above B: 1.00 (95 % interval 1.00 to 1.00)" in out
    assert "over 2 and 2 episodes" in out
    assert "file    out/learning_curves.png" in lines
    assert "in MLflow's experiment 'comparisons'" in lines[-1]


def test_fifty_trials_are_sorted_and_the_best_fifteen_shown(run: Run) -> None:
    from mlflow import MlflowClient

    of: Any = {"tags": {"dqnkit.study": "s"}}
    for number in range(20):
        config = loading.default_config("cartpole", [f"agent.gamma={0.9 + number / 1000}"])
        run_id = record(config, name=f"t{number}", finals=(500.0, 500.0), curve={0: [0.0]}, **of)
        MlflowClient(locate_store().uri).log_metric(run_id, "late/return_iqm", number)
    code, out, err = run("compare", "--study", "s")
    assert (code, err) == (0, "")
    header, *rows = out.splitlines()[:17]
    assert header.split()[:3] == ["runs", "gamma", "value"]
    assert [row.split()[1] for row in rows[:15]] == [f"t{number}" for number in range(19, 4, -1)]
    assert rows[15] == "5 more (--all)"
    _, out, _ = run("compare", "--study", "s", "--all")
    assert out.splitlines()[20].split()[:4] == ["T", "t0", "0.9", "0.0"]
    assert "more (--all)" not in out


def test_many_parameters_have_a_table_of_their_own(run: Run) -> None:
    _record("one")
    _record("two", *CHANGES)
    _, out, _ = run("compare", "one", "two")
    header, *_, empty = out.split("parameter")[0].splitlines()
    assert header.split()[:2] == ["runs", "score"]
    assert empty == ""
    table = [line.split() for line in out.splitlines()[4:9]]
    assert table == [
        ["parameter", "A", "B"],
        ["agent.gamma", "0.99", "0.9"],
        ["agent.n_step", "1", "3"],
        ["optimizer.learning_rate", "0.001", "0.5"],
        ["training.batch_size", "64", "32"],
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["5.412636564086669e-05", "0.007157594238520133"], ["5.41e-05", "0.00716"]),
        (["0.00025", "-1234567.5"], ["0.00025", "-1.23e+06"]),
        (["0.123456789", "0.123456780"], ["0.123456789", "0.123456780"]),
        (["0.00123", "0.0012345"], ["0.00123", "0.001234"]),
        (["0.123456789"] * 8 + ["0.123456780"], ["0.123"] * 9),  # many may look alike
        (["1000000", "[0.123456789]"], ["1000000", "[0.123456789]"]),
        (["None", "1.0.0", "double_c51"], ["None", "1.0.0", "double_c51"]),
    ],
)
def test_long_numbers_are_rounded(values: list[str], shown: list[str]) -> None:
    assert _shorten(values) == shown


def test_a_repeated_seed_is_left_out_with_a_warning(run: Run) -> None:
    _record("one")
    _record("two")
    code, out, err = run("compare", "one", "two", "-o", "out")
    assert code == 0
    assert err.startswith("warning: one (")
    assert out.splitlines()[1].startswith("A two")


def test_json_is_one_document(run: Run) -> None:
    _record("one")
    code, out, err = run("compare", "one", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["groups"][0]["runs"][0]["name"] == "one"
    assert document["files"] == [f"comparison/{name}" for name in _FILES]


_FILES = ("comparison.json", "learning_curves.html", "learning_curves.png")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["nothing to compare", "--experiment or --study"]),
        (["latest", "nothing"], ["no run 'nothing'"]),
        (["--study", "none"], ["no runs of study 'none'"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    _record("one")
    before = sorted(Path.cwd().rglob("*"))
    assert_misused(run("compare", *arguments), *parts)
    assert sorted(Path.cwd().rglob("*")) == before
