from __future__ import annotations

import io

import pytest
from dqnkit.runs.reporting import Progress, Reporter
from rich.console import Console

from cli.displays.training import LiveReporter, PlainReporter, _sparkline
from cli.output import _finite
from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.loops.base import IntervalMetrics

NAN = float("nan")
METRICS = IntervalMetrics(5_000, 5_100, 0.123456, 0.25, 3, 41.5, 41.5)


def _screen(reporter: LiveReporter) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(reporter)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _half_way(reporter: Reporter) -> None:
    reporter.preparing(Config(name="mine"), "mine-s0-abcd")
    reporter.started(2.5, 0)
    first = Evaluation(iteration=0, env_steps=100, returns=(8.0, 10.0), lengths=(8, 10))
    reporter.evaluated(first, first)
    reporter.progressed(Progress(5_000, 5_100, (METRICS,), 12_345.0))
    second = Evaluation(iteration=5_000, env_steps=5_100, returns=(60.0, 40.0), lengths=(60, 40))
    reporter.evaluated(second, second)


def test_the_live_display_shows_all_that_is_promised() -> None:
    reporter = LiveReporter()
    assert "loading TensorFlow" in _screen(reporter)
    reporter.preparing(Config(name="mine"), "mine-s0-abcd")
    assert "compiling" in _screen(reporter)
    _half_way(reporter)
    screen = _screen(reporter)
    for part in (
        *("mine · CartPole-v1 · auto loop · seed 0", "mine-s0-abcd", "compiled in 2.5 s"),
        *("5,000/20,000 iterations", "12,345 steps/s", "left"),
        *("50.0 ± 10.0 (n=2)", "50.0 at step 5,100"),
        *("41.5", "0.1235", "epsilon 0.250", "▁█"),
    ):
        assert part in screen


def test_plain_lines_say_the_same_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    _half_way(reporter)
    last = Evaluation(iteration=20_000, env_steps=20_100, returns=(500.0,), lengths=(500,))
    reporter.evaluated(last, last)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine · CartPole-v1 · auto loop · seed 0  run mine-s0-abcd"
    assert " ".join(lines[-1].split()) == (
        "iteration 20,000/20,000 return 500.0 best 500.0 loss 0.1235 epsilon 0.250 12,345 steps/s"
    )


def test_a_sparkline_spans_its_values() -> None:
    assert _sparkline([]) == ""
    assert _sparkline([5.0, 5.0]) == "▁▁"
    assert _sparkline([-200.0, -150.0, -100.0]) == "▁▄█"
    assert len(_sparkline(list(range(100)))) == 40


def test_json_has_null_for_what_is_no_number() -> None:
    assert _finite({"a": [NAN, float("inf"), 1.5], "b": (2, "x")}) == {
        "a": [None, None, 1.5],
        "b": [2, "x"],
    }
