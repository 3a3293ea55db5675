"""Workers whose training is arithmetic: everything but TensorFlow is as ever.

What a run is to do beside that stands in `tracking.tags` of its configuration, by part of its name:
`{dies: t002}` ends the process of the run whose name holds `t002`.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from dqnkit._system import memory
from dqnkit.config.sections import Config
from dqnkit.errors import TrainingDivergedError
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.runs.reporting import Progress, Reporter
from dqnkit.tracking.tracker import KIND_TAG, RunRecord, Tracker
from dqnkit.workers import worker

BEST_RATE = 1e-3
"""The learning rate with the highest score, 100."""


def serve(connection: Connection, said: str | None, most_memory: int) -> None:
    """`worker.serve`, which imports the training anew."""
    module = ModuleType("dqnkit.runs.trainer")
    module.train = train  # type: ignore[attr-defined]
    sys.modules["dqnkit.runs.trainer"] = module
    worker.serve(connection, said, most_memory)


def growing_after_one(connection: Connection, said: str | None, most_memory: int) -> None:
    """`serve` in a process that holds more than it may after its first run."""
    sizes = iter([0])
    memory.process_memory = lambda: next(sizes, most_memory + 1)
    serve(connection, said, most_memory)


def stillborn(connection: Connection, said: str | None, most_memory: int) -> None:
    """Dies before it is ready."""
    del connection, most_memory
    assert said is not None
    Path(said).write_text("no such accelerator", encoding="utf-8")
    os._exit(3)


def score(config: Config, run_name: str = "") -> float:
    """What a run comes to: by its learning rate, a little by its seed."""
    distance = abs(math.log10(config.optimizer.learning_rate / BEST_RATE))
    lucky = 30.0 if _wanted(config, "lucky", run_name) else 0.0
    return 100.0 - 20.0 * distance + config.training.seed % 7 / 10 + lucky


def _wanted(config: Config, what: str, run_name: str) -> bool:
    # A run of the confirmation is named after its trial too.
    names = config.tracking.tags.get(what, "").split()
    return "confirms" not in run_name and any(name in run_name for name in names)


def train(
    config: Config,
    tracker: Tracker,
    reporter: Reporter,
    run_name: str,
    interrupts: Interrupts,
) -> Any:
    """`dqnkit.runs.trainer.train` as far as a worker needs it."""
    total, interval = config.training.num_iterations, config.evaluation.eval_interval
    evaluations: list[Evaluation] = []
    status = RunStatus.FAILED
    with catch_signals(interrupts):
        tags = {KIND_TAG: "training"}
        tracker.start(RunRecord(config.name, run_name, config.flat(), tags))
        try:
            reporter.started(0.1, 0)
            if _wanted(config, "dies", run_name):
                os.kill(os.getpid(), signal.SIGKILL)
            if _wanted(config, "raises", run_name):
                raise OSError("the disk is gone")
            if _wanted(config, "diverges", run_name):
                raise TrainingDivergedError("the loss became nan")
            for iteration in range(0, total + 1, interval):
                if interrupts and evaluations:  # as ever, that before training is always made
                    break
                time.sleep(float(config.tracking.tags.get("seconds", "0")))
                value = score(config, run_name) * iteration / total
                evaluation = Evaluation(
                    returns=(value - 1, value, value, value + 1),
                    lengths=(10,) * 4,
                    iteration=iteration,
                    env_steps=iteration,
                )
                evaluations.append(evaluation)
                tracker.log({"eval/return_mean": value}, iteration)
                reporter.progressed(Progress(iteration, iteration, (), 1000.0))
                reporter.evaluated(evaluation, evaluation)
            status = interrupts.status or RunStatus.FINISHED
        finally:
            problems = tracker.finish(status)
    return SimpleNamespace(
        run_id=tracker.run_id,
        run_name=run_name,
        status=status,
        env_steps=evaluations[-1].env_steps,
        seconds=1.0,
        steps_per_second=1000.0,
        evaluations=tuple(evaluations),
        late=late_episodes(evaluations),
        best=evaluations[-1],
        final=evaluations[-1],
        problems=problems,
    )
