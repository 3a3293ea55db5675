"""Workers whose training is arithmetic; everything but TensorFlow is real.

Faults are chosen by `tracking.tags` of the configuration, whose values are parts of run names:
`{dies: t002}` kills the process that trains a run whose name contains `t002`.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest

from dqnkit._system import memory
from dqnkit.config.sections import Config
from dqnkit.errors import TrainingDivergedError
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import (
    Evaluated,
    Listener,
    Progress,
    RunEnded,
    RunPreparing,
    RunStarted,
    RunStatus,
)
from dqnkit.processes import launcher
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.runs.metrics import final_metrics
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.factory import make_tracker
from dqnkit.tracking.location import locate_optional_store
from dqnkit.tracking.names import Artifact, Metric, RunKind, Tag
from dqnkit.tracking.tracker import ParentRun, RunHeader, Tracker
from dqnkit.tuning import search
from dqnkit.workers import seeds, worker
from dqnkit.workers.pool import WorkerPool
from tests.processes import FORKED

BEST_RATE = 1e-3
"""The learning rate with the highest score, 100."""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let searches and groups of seeds start workers that train with arithmetic."""
    for module in (search, seeds):
        monkeypatch.setattr(module, "WorkerPool", partial(WorkerPool, target=serve))
    monkeypatch.setattr(launcher, "_START_METHOD", FORKED.get_start_method())


def serve(connection: Connection, output: str | None, most_memory: int) -> None:
    """Serve as `worker.serve` does, without loading TensorFlow."""
    name = "dqnkit._system.tensorflow"
    sys.modules[name] = ModuleType(name)
    worker.train = train
    worker.serve(connection, output, most_memory)


def growing_after_one(connection: Connection, output: str | None, most_memory: int) -> None:
    """Serve in a process that holds too much memory after its first run."""
    sizes = iter([0])
    memory.process_memory = lambda: next(sizes, most_memory + 1)
    serve(connection, output, most_memory)


def stillborn(connection: Connection, output: str | None, most_memory: int) -> None:
    """Exit before the worker is ready."""
    del connection, most_memory
    assert output is not None
    Path(output).write_text("no such accelerator", encoding="utf-8")
    os._exit(3)


def score(config: Config, run_name: str = "") -> float:
    """Return the final score of a run: a function of its learning rate and, slightly, its seed."""
    distance = abs(math.log10(config.optimizer.learning_rate / BEST_RATE))
    lucky = 30.0 if _is_named(config, "lucky", run_name) else 0.0
    return 100.0 - 20.0 * distance + config.training.seed % 7 / 10 + lucky


def train(
    config: Config,
    *,
    tracking_uri: str | None,
    listener: Listener,
    run_name: str,
    parent: ParentRun,
    interrupts: Interrupts,
) -> TrainResult:
    """Emit and record what `dqnkit.runs.trainer.train` would, with scores of `score`."""
    listener(RunPreparing(config, run_name))
    tracker = make_tracker(config, locate_optional_store(tracking_uri), parent)
    evaluations: list[Evaluation] = []
    status = RunStatus.FAILED
    with catch_signals(interrupts):
        tags = {Tag.KIND: RunKind.TRAINING}
        tracker.start(RunHeader(config.name, run_name, config.flat(), tags))
        try:
            listener(RunStarted(tracker.run_id, 0.1, 0))
            _fail_if_asked(config, run_name)
            _evaluate_at_intervals(config, run_name, tracker, listener, interrupts, evaluations)
            status = interrupts.status or RunStatus.FINISHED
            result = make_result(config, run_name, evaluations, status, tracker.run_id)
            tracker.log(final_metrics(result), result.env_steps)
            _add_policy(tracker)
        finally:
            problems = tracker.finish(status)
    result = replace(result, problems=problems)
    listener(RunEnded(result))
    return result


def _add_policy(tracker: Tracker) -> None:
    """Record files in the place of a policy, which a search registers."""
    if tracker.keeps_files:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / Artifact.POLICY
            folder.mkdir()
            (folder / "MLmodel").touch()
            tracker.add_artifacts(Path(scratch))


def _fail_if_asked(config: Config, run_name: str) -> None:
    if _is_named(config, "dies", run_name):
        os.kill(os.getpid(), signal.SIGKILL)
    if _is_named(config, "raises", run_name):
        raise OSError("the disk is gone")
    if _is_named(config, "diverges", run_name):
        raise TrainingDivergedError("the loss became nan")


def _evaluate_at_intervals(
    config: Config,
    run_name: str,
    tracker: Tracker,
    listener: Listener,
    interrupts: Interrupts,
    evaluations: list[Evaluation],
) -> None:
    total, interval = config.training.num_iterations, config.evaluation.eval_interval
    for iteration in range(0, total + 1, interval):
        if interrupts and evaluations:  # the evaluation before training is always made
            break
        time.sleep(float(config.tracking.tags.get("seconds", "0")))
        value = score(config, run_name) * iteration / total
        evaluation = make_evaluation(iteration, value)
        evaluations.append(evaluation)
        tracker.log({Metric.EVAL_MEAN: value}, iteration)
        listener(Progress(iteration, iteration, (), 1000.0))
        listener(Evaluated(evaluation, evaluation, late_episodes(evaluations)))


def make_evaluation(iteration: int, value: float) -> Evaluation:
    """Return an evaluation whose mean is a value, with one environment step per iteration."""
    return Evaluation(
        returns=(value - 1, value, value, value + 1),
        lengths=(10,) * 4,
        iteration=iteration,
        env_steps=iteration,
    )


def make_result(
    config: Config,
    run_name: str,
    evaluations: Sequence[Evaluation],
    status: RunStatus = RunStatus.FINISHED,
    run_id: str | None = None,
) -> TrainResult:
    """Return the result of a run with these evaluations, the last of which is its best."""
    last = evaluations[-1]
    return TrainResult(
        experiment=config.name,
        run_name=run_name,
        run_id=run_id,
        status=status,
        iterations=last.iteration,
        env_steps=last.env_steps,
        seconds=1.0,
        compile_seconds=0.1,
        training_seconds=0.9,
        steps_per_second=1000.0,
        last=last,
        best=last,
        final=last,
        late=late_episodes(evaluations),
        evaluations=tuple(evaluations),
        checkpoints=0,
        checkpoint_seconds=0.0,
        checkpoint_megabytes=0.0,
    )


def _is_named(config: Config, tag: str, run_name: str) -> bool:
    # A run of the confirmation is named after its trial too.
    names = config.tracking.tags.get(tag, "").split()
    return "confirms" not in run_name and any(name in run_name for name in names)
