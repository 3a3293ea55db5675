from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cli.displays.training import (
    LiveTraining,
    PlainTraining,
    _sparkline,
    displayed,
    print_result,
)
from dqnkit.config import loading
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import (
    Evaluated,
    Listener,
    Progress,
    RunPreparing,
    RunStarted,
    RunStatus,
    Warned,
)
from dqnkit.loops.base import IntervalMetrics
from dqnkit.runs.result import TrainResult
from tests.cli.displays.screen import shown

NAN = float("nan")
METRICS = IntervalMetrics(5_000, 5_100, 0.123456, 0.25, 3, 41.5, 41.5)
FIRST = Evaluation(iteration=0, env_steps=100, returns=(8.0, 10.0), lengths=(8, 10))
SECOND = Evaluation(iteration=5_000, env_steps=5_100, returns=(60.0, 40.0), lengths=(60, 40))
LAST = Evaluation(iteration=20_000, env_steps=20_100, returns=(500.0,), lengths=(500,))
PREPARING = RunPreparing(loading.default_config("mine"), "mine-s0-abcd")


def _evaluated(*evaluations: Evaluation) -> Evaluated:
    best = max(evaluations, key=lambda each: each.summary.mean)
    return Evaluated(evaluations[-1], best, late_episodes(evaluations))


def _train_half(listener: Listener) -> None:
    listener(PREPARING)
    listener(RunStarted("id", 2.5, 0))
    listener(_evaluated(FIRST))
    listener(Progress(5_000, 5_100, (METRICS,), 12_345.0))
    listener(_evaluated(FIRST, SECOND))


def test_the_live_display_shows_progress_evaluations_and_metrics() -> None:
    live = LiveTraining()
    assert "loading TensorFlow" in shown(live)
    live(PREPARING)
    assert "compiling" in shown(live)
    _train_half(live)
    text = shown(live)
    for part in (
        *("mine · CartPole-v1 · auto loop · seed 0", "mine-s0-abcd", "compiled in 2.5 s"),
        *("5,000/20,000 iterations", "12,345 steps/s", "left"),
        *("50.0 ± 10.0 (n=2)", "50.0 at step 5,100"),
        *("41.5", "0.1235", "epsilon 0.250", "▁█"),
    ):
        assert part in text
    assert max(map(len, shown(live, 80).splitlines())) <= 80


def test_the_live_display_ends_with_the_last_iteration() -> None:
    live = LiveTraining()
    _train_half(live)
    live(Progress(20_000, 20_100, (replace(METRICS, loss=NAN, return_mean=NAN),), 12_345.0))
    text = shown(live)
    assert "20,000/20,000 iterations" in text
    assert "done" in text
    assert "loss  -" in text


def test_the_returns_of_training_are_those_of_the_last_interval_with_episodes() -> None:
    live = LiveTraining()
    _train_half(live)
    live(Progress(6_000, 6_100, (replace(METRICS, episodes=0, return_mean=NAN),), 1.0))
    assert "41.5" in shown(live)


def test_the_live_display_names_the_exploration_and_shows_warnings() -> None:
    live = LiveTraining()
    boltzmann = loading.default_config("mine", ["exploration.policy=boltzmann"])
    live(RunPreparing(boltzmann, "a-run"))
    live(Warned("postgresql://me:swordfish@host/db is away"))
    assert "warning: postgresql://host/db is away" in shown(live)
    live(RunStarted("id", 2.5, 5_000))
    live(Progress(5_000, 5_100, (METRICS,), 1.0))
    text = shown(live)
    assert "continues at iteration 5,000" in text
    assert "temperature 0.250" in text
    assert "warning: postgresql://host/db is away" in text


def test_plain_lines_show_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainTraining()
    _train_half(plain)
    plain(_evaluated(FIRST, SECOND, LAST))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "mine · CartPole-v1 · auto loop · seed 0 run mine-s0-abcd",
        "compiled in 2.5 s",
        "iteration 0/20,000 return 9 best 9",
        # No line for the second evaluation, which came too early.
        "iteration 20,000/20,000 return 500.0 best 500.0 loss 0.1235 epsilon 0.250 12,345 steps/s",
    ]


def test_plain_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    PlainTraining()(Warned("look here"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: look here\n")


def test_a_pipe_gets_plain_lines() -> None:
    with displayed(as_json=False, quiet=False) as listener:
        assert isinstance(listener, PlainTraining)


def test_a_sparkline_spans_its_values() -> None:
    assert _sparkline([]) == ""
    assert _sparkline([5.0, 5.0]) == "▁▁"
    assert _sparkline([-200.0, -150.0, -100.0]) == "▁▄█"
    assert len(_sparkline([float(number) for number in range(100)])) == 40


def _result(**changes: Any) -> TrainResult:
    result = TrainResult(
        experiment="mine",
        run_name="mine-s0-abcd",
        run_id="0123",
        status=RunStatus.FINISHED,
        iterations=20_000,
        env_steps=20_100,
        seconds=9.0,
        compile_seconds=2.5,
        training_seconds=5.0,
        steps_per_second=4_020.0,
        last=LAST,
        best=SECOND,
        final=Evaluation(iteration=5_000, env_steps=5_100, returns=(1.0,) * 4, lengths=(1,) * 4),
        late=late_episodes([FIRST, SECOND, LAST]),
        evaluations=(FIRST, SECOND, LAST),
        checkpoints=0,
        checkpoint_seconds=0.0,
        checkpoint_megabytes=0.0,
        hints={"show it": "dqnkit ui"},
        problems=["something was not recorded"],
    )
    return replace(result, **changes)


def test_the_result_is_printed_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(_result(), as_json=False, quiet=False)
    captured = capsys.readouterr()
    assert captured.err == "warning: something was not recorded\n"
    assert captured.out.splitlines() == [
        "best      50.0 over 2 episodes, at step 5,100",
        "final     mean 1, IQM 1 (95 % interval 1 to 1) over 4 fresh episodes",
        "time      9.0 s: compiling 2.5 s, training 5.0 s at 4,020 steps/s",
        "run       mine-s0-abcd (0123)",
        "show it   dqnkit ui",
    ]


def test_checkpoints_are_printed_if_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    result = _result(run_id=None, checkpoints=3, checkpoint_seconds=0.5, checkpoint_megabytes=1.25)
    print_result(result, as_json=False, quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:5] == [
        "saved     3 checkpoints in 0.50 s, the last of 1.2 MB",
        "run       mine-s0-abcd",
    ]


def test_the_result_of_a_quiet_command_is_empty_or_a_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result(_result(), as_json=False, quiet=True)
    assert capsys.readouterr() == ("", "warning: something was not recorded\n")
    print_result(_result(steps_per_second=NAN), as_json=True, quiet=False)
    document = json.loads(capsys.readouterr().out)
    assert (document["run_name"], document["steps_per_second"]) == ("mine-s0-abcd", None)
