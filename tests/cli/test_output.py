from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from cli import main, messages, output
from cli.output import Column
from dqnkit.config import loading
from tests.cli.conftest import APP

COLUMNS = [Column("run", left=True), Column("score"), Column("time", spare=1)]
ROWS = [["a-run", "499.5", "1.0 s"], ["b", "7", "2 min 05 s"]]


def _on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    console = partial(Console, force_terminal=True, width=width, no_color=True)
    monkeypatch.setattr(output, "Console", console)


def test_a_table_aligns_text_left_and_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "run    score        time",
        "a-run  499.5       1.0 s",
        "b          7  2 min 05 s",
    ]


def test_a_pipe_gets_complete_cells(capsys: pytest.CaptureFixture[str]) -> None:
    text = "x" * 1_000
    output.say_table([Column("text", left=True)], [[text]])
    assert capsys.readouterr().out == f"text\n{text}\n"


@pytest.mark.parametrize(("width", "columns"), [(24, 3), (23, 2), (5, 2)])
def test_spare_columns_are_left_out_of_a_narrow_terminal(
    width: int, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_a_terminal(monkeypatch, width)
    output.say_table(COLUMNS, ROWS)
    printed = capsys.readouterr().out
    assert ("time" in printed) == (columns == 3)
    assert max(map(len, _plain(printed).splitlines())) <= width


def test_long_text_is_wrapped_within_its_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_a_terminal(monkeypatch, 30)
    rows = [["cartpole", "Balances a pole for 500 steps."]]
    columns = [Column("experiment", left=True, wraps=False), Column("about", left=True)]
    output.say_table(columns, rows)
    assert [line.rstrip() for line in _plain(capsys.readouterr().out).splitlines()] == [
        "experiment  about",
        "cartpole    Balances a pole",
        "            for 500 steps.",
    ]


def _plain(text: str) -> str:
    from rich.text import Text

    return Text.from_ansi(text).plain


def test_warnings_hide_secrets_and_name_options(capsys: pytest.CaptureFixture[str]) -> None:
    messages.set_command(APP, "runs")
    output.warn(["http://me:swordfish@host is away: choose `tracking_uri`", "another"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "warning: http://host is away: choose --tracking-uri",
        "warning: another",
    ]


def test_a_command_warns_of_a_problem_once(capsys: pytest.CaptureFixture[str]) -> None:
    output.warn(["one"])
    output.warn(["two", "one", "two"])
    assert capsys.readouterr().err == "warning: one\nwarning: two\n"
    messages.set_command(APP, "train")
    output.warn(["one"])
    assert capsys.readouterr().err == "warning: one\n"


def test_a_document_has_null_in_place_of_numbers_that_are_not_finite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nan, infinity = float("nan"), float("inf")
    output.say_document({"a": [nan, infinity, 1.5], "b": (2, "x"), "c": {"d": -infinity}})
    document = json.loads(capsys.readouterr().out)
    assert document == {"a": [None, None, 1.5], "b": [2, "x"], "c": {"d": None}}


@pytest.mark.parametrize("as_json", [True, False])
def test_stdout_is_reserved_for_a_document(
    as_json: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with output.reserve_stdout(as_json=as_json):
        print("from Python", flush=True)  # noqa: T201 - as environments do
        subprocess.run(["echo", "from a child"], check=True)
    output.say("document")
    captured = capfd.readouterr()
    printed = "from Python\nfrom a child\n"
    assert captured.err == (printed if as_json else "")
    assert captured.out == ("" if as_json else printed) + "document\n"


def test_a_reader_that_has_gone_ends_the_printing_only() -> None:
    code = "from cli.output import say; [say('x' * 9_999) for _ in range(99)]; open('done', 'w')"
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(main.__file__).rpartition("/cli/")[0]},
    )
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert Path("done").exists()


@pytest.mark.parametrize(
    ("shown", "is_terminal", "printed"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_a_status_line_is_shown_on_terminals_only(
    shown: bool,
    is_terminal: bool,
    printed: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(output, "Console", partial(Console, force_terminal=is_terminal))
    with output.waiting("reading runs", shown=shown):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("reading runs" in captured.err) == printed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60.0, "1 min 00 s"),
        (3_599.4, "59 min 59 s"),
        (3_600.0, "1 h 00 min"),
        (90_061.0, "25 h 01 min"),
    ],
)
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s ago"),
        (59, "59 s ago"),
        (120, "2 min ago"),
        (7_300, "2 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_times_are_relative(seconds: float, text: str) -> None:
    assert output.ago(time.time() - seconds) == text


@pytest.mark.parametrize(
    ("assignments", "text"),
    [
        (["training.loop=host"], "host loop"),
        (["replay.kind=reverb", "training.num_actors=3"], "3 actors"),
        (
            ["replay.kind=reverb", "training.num_actors=0", "replay.address=a:1"],
            "actors on other hosts",
        ),
    ],
)
def test_the_kind_of_collection_is_named(assignments: list[str], text: str) -> None:
    assert output.collecting(loading.default_config("x", assignments)) == text
