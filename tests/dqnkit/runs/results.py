"""A result of a run, for tests of what is made of it."""

from __future__ import annotations

from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.events import RunStatus
from dqnkit.runs.result import TrainResult

FIRST = Evaluation(iteration=0, env_steps=20, returns=(1.0, 2.0), lengths=(1, 2))
BEST = Evaluation(iteration=10, env_steps=30, returns=(5.0, 7.0), lengths=(5, 7))
LAST = Evaluation(iteration=20, env_steps=40, returns=(4.0, 4.0), lengths=(4, 4))
RESULT = TrainResult(
    experiment="an-experiment",
    run_name="a-run",
    run_id="0123",
    status=RunStatus.FINISHED,
    iterations=20,
    env_steps=40,
    seconds=9.0,
    compile_seconds=2.0,
    training_seconds=4.0,
    steps_per_second=25.0,
    last=LAST,
    best=BEST,
    final=Evaluation(iteration=10, env_steps=30, returns=(6.0, 6.5, 8.0), lengths=(6, 6, 8)),
    late=Episodes(returns=(5.0, 7.0, 4.0, 4.0), lengths=(5, 7, 4, 4)),
    evaluations=(FIRST, BEST, LAST),
    checkpoints=3,
    checkpoint_seconds=0.5,
    checkpoint_megabytes=1.25,
    hints={"show it": "dqnkit ui"},
)
