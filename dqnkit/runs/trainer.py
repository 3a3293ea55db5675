"""Training one run, from its configuration to its closed record.

`train` and `resume` are the public functions. `_Trainer.train` is the course of a run: compile,
train chunk by chunk with evaluations in between, conclude. Importing this module does
not load TensorFlow, which the components of a run do when they are made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace

from dqnkit._system.files import kept_working_directory
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import as_recorded, cautions, resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import (
    CheckpointError,
    ConfigError,
    EnvironmentFailedError,
    InterruptedRun,
    TrainingDivergedError,
)
from dqnkit.evaluation.base import Watch
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.events import (
    Collecting,
    Evaluated,
    Evaluating,
    Listener,
    Progress,
    RunEnded,
    RunPreparing,
    RunStarted,
    RunStatus,
    Warned,
    ignore,
)
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.runs import descriptions, metrics
from dqnkit.runs.artifacts import RunArtifacts
from dqnkit.runs.checkpoints import Checkpoint, CheckpointWriter, Clocks
from dqnkit.runs.components import Components, make_components
from dqnkit.runs.history import EvaluationHistory
from dqnkit.runs.result import TrainResult
from dqnkit.runs.resumption import Resumption, find_resumption
from dqnkit.tracking.factory import make_tracker
from dqnkit.tracking.location import AUTO, locate_optional_store, locate_store
from dqnkit.tracking.names import Metric, Tag
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.tracker import NO_PARENT, ParentRun, RunHeader, Tracker

CHUNK_SECONDS = 0.25
"""Target duration of a chunk: a smooth display and a prompt reaction to Ctrl-C, in few calls."""
_MAX_GROWTH = 10
_SHORT_ID = 8


def train(
    config: Config,
    *,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
    run_name: str | None = None,
    parent: ParentRun = NO_PARENT,
    interrupts: Interrupts | None = None,
) -> TrainResult:
    """Train one run, evaluate it at intervals, and record it.

    Args:
      config: The configuration. The same one gives the same curve, bit for bit.
      tracking_uri: URI of the MLflow store; None records nothing
        (`dqnkit.tracking.location.locate_store`).
      listener: Receives the events of the run.
      run_name: Name of the run; experiment, seed and a short id by default.
      parent: Parent run in MLflow.
      interrupts: Lets the caller end the run early, as signals do.

    Raises:
      ConfigError: If the configuration cannot be run.
      TrackingError: If the store cannot be used; nothing is trained.
      InterruptedRun: If SIGINT, SIGTERM or SIGHUP came; the run is recorded as KILLED, with a
        checkpoint to resume from.
      TrainingDivergedError: If the loss is not finite; the run is recorded as FAILED.
    """
    store = locate_optional_store(tracking_uri)  # before environments change the folder
    with kept_working_directory():
        given, (config, spec) = config, resolve(config)
        name = run_name or descriptions.make_run_name(config)
        tracker = make_tracker(config, store, parent)
        # Interrupts are false until the end is requested: `or` would replace those of the caller.
        interrupts = Interrupts() if interrupts is None else interrupts
        warnings = cautions(given, config, spec)
        return _train(_Run(config, spec, name, tracker, listener, interrupts, warnings))


def resume(
    run: str,
    *,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
    interrupts: Interrupts | None = None,
) -> TrainResult:
    """Continue an interrupted run in its own record.

    In the graph loop everything follows as it would have without the interruption, bit for bit.
    In the host loop new episodes begin, and everything else continues.

    Args:
      run: Reference to the run (`dqnkit.tracking.references.FORMS`).
      tracking_uri: URI of the store that has it.
      listener: Receives the events of the run.
      interrupts: Lets the caller end the run early, as signals do.

    Raises:
      ConfigError: If there is no such run, it is complete or in training, or its checkpoint does
        not fit its configuration.
      CheckpointError: If nothing of the run is left to continue from.
      BusyRunError: If another process trains the run, or has continued it in the meantime.
      InterruptedRun: If a signal came. This and all other errors are those of `train`.
    """
    store = locate_store(tracking_uri)
    resumption = find_resumption(RunStore(store), run)
    with kept_working_directory():
        recorded = as_recorded(resumption.config)
        config, spec = resolve(recorded)
        name, tracker = resumption.run_name, make_tracker(config, store)
        interrupts = Interrupts() if interrupts is None else interrupts
        warnings = list(resumption.warnings) + cautions(recorded, config, spec)
        return _train(_Run(config, spec, name, tracker, listener, interrupts, warnings, resumption))


@dataclass(frozen=True)
class _Run:
    """Everything that is known about a run before its components are made."""

    config: Config
    """The resolved configuration."""
    spec: EnvSpec
    name: str
    tracker: Tracker
    listener: Listener
    interrupts: Interrupts
    warnings: list[str]
    """Warnings to give when training starts."""
    resumption: Resumption | None = None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Checkpoint that the run is resumed from."""
        return self.resumption.checkpoint if self.resumption else None


def _train(run: _Run) -> TrainResult:
    import dqnkit._system.tensorflow  # noqa: F401 - takes seconds, before the run is announced

    run.listener(RunPreparing(run.config, run.name))
    began = time.perf_counter()
    with catch_signals(run.interrupts):
        header = _describe_run(run)
        # A run whose components cannot be made leaves no record.
        trainer = _Trainer(run, header, _make_components(run), began)
        result = trainer.train()
    run.listener(RunEnded(result))
    if result.status is RunStatus.KILLED and run.interrupts.signal is not None:
        interruption = trainer.interruption()
        for problem in result.problems:
            interruption.add_note(problem)
        raise interruption
    return result


def _make_components(run: _Run) -> Components:
    """Make loop, policy and evaluator, and restore the loop's checkpoint if there is one."""
    with ExitStack() as unfinished:
        components = make_components(run.config, run.spec, lambda: run.interrupts)
        unfinished.callback(components.close)
        if run.checkpoint is not None:
            _check_inputs(run.checkpoint, run.spec)
            try:
                components.loop.restore(run.checkpoint.loop)
            except ConfigError as error:
                raise CheckpointError(
                    f"the checkpoint of iteration {run.checkpoint.iteration:,} does not fit "
                    f"{run.spec.id!r} as it is now, with the observations "
                    f"{run.spec.observation.describe()} and {run.spec.num_actions} actions: the "
                    f"environment, or dqnkit, has changed since the run began ({error})"
                ) from error
        components.loop.check()
        unfinished.pop_all()
    return components


def _check_inputs(checkpoint: Checkpoint, spec: EnvSpec) -> None:
    """Check that the network of a checkpoint has seen its inputs as they are given now.

    Raises:
      CheckpointError: If an earlier version of dqnkit scaled or flattened them in another way.
    """
    if "\n  channels: " in checkpoint.config or not spec.observation.images:
        return
    for image in spec.observation.images:
        scale = 1 / 255 if (image.dtype, image.low, image.high) == ("uint8", 0, 255) else 1.0
        first_is_shortest = len(image.shape) == 3 and image.shape[0] < min(image.shape[1:])
        if image.scale != scale or image.channels_first != first_is_shortest:
            raise CheckpointError(
                f"the run was begun by an earlier version of dqnkit, which read images of shape "
                f"{image.shape} and type {image.dtype} in another way: start a new run"
            )


def _describe_run(run: _Run) -> RunHeader:
    config, resumption = run.config, run.resumption
    tags = descriptions.tags(config)
    # In the graph loop a resumed run logs the same points again; in the host loop other episodes
    # follow, and their points stand beside those after the checkpoint.
    repeats = False
    if resumption is not None:
        del tags[Tag.COMMAND]  # the command that began the run stays
        tags[Tag.RESUMED_AT] = str(resumption.iteration)
        repeats = resumption.checkpoint is None or config.training.loop == "graph"
    return RunHeader(
        experiment=config.name,
        run_name=run.name,
        params=config.flat(),
        tags=tags,
        description=descriptions.opening(config),
        continues=resumption.run_id if resumption else None,
        last_ended=resumption.ended if resumption else None,
        repeats=repeats,
    )


class _StopRequestedError(Exception):
    """The run is interrupted while it takes initial steps or plays episodes."""


class _Trainer:
    """The course of one run."""

    def __init__(self, run: _Run, header: RunHeader, components: Components, began: float) -> None:
        config = run.config
        self._run = run
        self._header = header
        self._config = config
        self._tracker = run.tracker
        self._interrupts = run.interrupts
        self._components = components
        self._loop = components.loop
        self._history = EvaluationHistory(components, config.evaluation, run.checkpoint)
        self._artifacts = RunArtifacts(config, run.tracker)
        self._has_config = False
        self._checkpoints = CheckpointWriter(run.tracker, config.training.checkpoint_interval)
        self._began = began
        self._compile_seconds = time.perf_counter() - began
        self._clocks_before = run.checkpoint.clocks if run.checkpoint else Clocks()
        self._training_seconds = self._clocks_before.training_seconds
        self._training_steps = self._clocks_before.training_steps

    def train(self) -> TrainResult:
        """Compile, train, evaluate and conclude, with the record open all the while."""
        with self._recorded() as record:
            self._compile()
            warnings = record.opened.result()  # opened while the loop was compiled
            self._artifacts.add_config()
            self._has_config = True
            self._announce(warnings)
            for event in self._events():
                self._warn(*self._components.warnings())
                self._log(event)
                self._run.listener(event)
            if not self._history.evaluations:
                raise self.interruption()
            record.result = self._conclude()
        return record.closed_result()

    def interruption(self) -> InterruptedRun:
        """Return the error of a run that was interrupted."""
        signal = self._interrupts.signal
        return InterruptedRun(
            f"interrupted{f' by {signal.name}' if signal else ''} after {self._loop.iteration:,} "
            f"of {self._config.training.num_iterations:,} iterations; {self._what_is_kept()}"
        )

    # -- The course of a run

    def _compile(self) -> None:
        start = time.perf_counter()
        self._loop.compile()
        self._components.evaluator.prepare()
        self._compile_seconds += time.perf_counter() - start

    def _announce(self, warnings: list[str]) -> None:
        self._warn(*self._run.warnings, *warnings)
        self._run.listener(
            RunStarted(self._tracker.run_id, self._compile_seconds, self._loop.iteration)
        )

    def _events(self) -> Iterator[Progress | Evaluated]:
        """Train and evaluate until the run is complete or interrupted."""
        with suppress(_StopRequestedError):
            self._collect_initial_steps()
            yield from self._train_and_evaluate()
        if not self._is_complete or self._is_killed:
            # The log interval under way is finished after `resume`.
            self._write_checkpoint()

    def _collect_initial_steps(self) -> None:
        """Fill the replay of a new run.

        Raises:
          _StopRequestedError: If the run is interrupted meanwhile.
        """
        total = self._config.training.initial_collect_steps
        while not self._loop.fill(CHUNK_SECONDS):
            self._run.listener(Collecting(self._loop.env_steps, total))
            self._stop_if_killed()
        self._stop_if_killed()

    def _train_and_evaluate(self) -> Iterator[Progress | Evaluated]:
        """Train chunk by chunk, and evaluate before, at each interval, and after."""
        total = self._config.training.num_iterations
        interval = self._config.evaluation.eval_interval
        chunk = 1
        self._checkpoints.start_timer()
        if self._is_evaluation_due:  # before training, or where a run was interrupted
            yield self._evaluate()
        while self._loop.iteration < total and not self._interrupts:
            iteration = self._loop.iteration
            next_evaluation = min(total, (iteration // interval + 1) * interval)
            stop = min(next_evaluation, self._checkpoints.next_stop(iteration, total))
            size = min(chunk, stop - iteration)
            progress, seconds = self._advance(size)
            # One iteration may be quicker than all others.
            chunk = max(1, min(_MAX_GROWTH * size, int(size * CHUNK_SECONDS / seconds)))
            yield progress
            if self._is_evaluation_due:
                yield self._evaluate()
            if self._checkpoints.is_due(self._loop.iteration):
                self._write_checkpoint()
        if not self._is_complete:
            return
        yield from self._flush()
        if self._is_evaluation_due:
            yield self._evaluate()

    def _advance(self, size: int) -> tuple[Progress, float]:
        """Train a chunk; return its progress and its duration in seconds."""
        steps, start = self._loop.env_steps, time.perf_counter()
        intervals = tuple(self._loop.advance(size))
        seconds = time.perf_counter() - start
        steps = self._loop.env_steps - steps
        self._training_seconds += seconds
        self._training_steps += steps
        loop = self._loop
        return Progress(loop.iteration, loop.env_steps, intervals, steps / seconds), seconds

    def _flush(self) -> Iterator[Progress]:
        rest = tuple(self._loop.flush())
        if rest:
            rate = self._clocks.steps_per_second
            yield Progress(self._loop.iteration, self._loop.env_steps, rest, rate)

    def _evaluate(self) -> Evaluated:
        self._stop_if_killed()
        evaluation = self._history.evaluate(self._watch(self._config.evaluation.num_eval_episodes))
        return Evaluated(evaluation, self._history.best, self._history.late)

    def _conclude(self) -> TrainResult:
        """Evaluate the best policy on fresh episodes, and record results and files."""
        final = self._evaluate_best()
        history, clocks = self._history, self._clocks
        is_complete = self._is_complete and final is not None
        interrupted = self._interrupts.status or RunStatus.FINISHED
        result = TrainResult(
            experiment=self._config.name,
            run_name=self._run.name,
            run_id=self._tracker.run_id,
            status=RunStatus.FINISHED if is_complete else interrupted,
            iterations=self._loop.iteration,
            env_steps=self._loop.env_steps,
            seconds=self._clocks.total_seconds,
            compile_seconds=clocks.compile_seconds,
            training_seconds=clocks.training_seconds,
            steps_per_second=clocks.steps_per_second,
            last=history.evaluations[-1],
            best=history.best,
            final=final,
            late=history.late,
            evaluations=history.evaluations,
            checkpoints=clocks.checkpoints,
            checkpoint_seconds=clocks.checkpoint_seconds,
            checkpoint_megabytes=clocks.checkpoint_megabytes,
            hints=self._tracker.hints(),
        )
        self._tracker.log(metrics.final_metrics(result), self._loop.env_steps)
        self._tracker.describe(descriptions.summary(self._config, history.best, final))
        if self._tracker.keeps_files:
            self._artifacts.add_results(history, final, self._make_checkpoint())
            self._artifacts.add_policy(self._components.policy, history.best_weights)
        return result

    def _evaluate_best(self) -> Evaluation | None:
        """Play the final episodes; None if the run is interrupted before they are complete."""
        with suppress(_StopRequestedError):
            self._stop_if_killed()
            watch = self._watch(self._config.evaluation.final_episodes)
            return self._history.evaluate_best(watch, in_full=self._is_complete)
        return None

    def _watch(self, total: int) -> Watch:
        """Return a function that reports on an evaluation, and ends it if the run is interrupted.

        Args:
          total: Number of episodes of the evaluation.
        """
        report_at = time.monotonic() + CHUNK_SECONDS

        def watch(finished: int, steps: int) -> None:
            nonlocal report_at
            self._stop_if_killed()
            if time.monotonic() >= report_at:
                self._run.listener(Evaluating(min(finished, total), total, steps))
                report_at = time.monotonic() + CHUNK_SECONDS

        return watch

    def _stop_if_killed(self) -> None:
        if self._is_killed:
            raise _StopRequestedError

    @property
    def _is_evaluation_due(self) -> bool:
        evaluations, iteration = self._history.evaluations, self._loop.iteration
        is_time = iteration % self._config.evaluation.eval_interval == 0 or self._is_complete
        return is_time and (not evaluations or evaluations[-1].iteration < iteration)

    @property
    def _is_killed(self) -> bool:
        """True if the run shall end at once; a run that a pruner ends is still evaluated."""
        return self._interrupts.status is RunStatus.KILLED

    @property
    def _is_complete(self) -> bool:
        return self._loop.iteration >= self._config.training.num_iterations

    # -- Logging

    def _log(self, event: Progress | Evaluated) -> None:
        if isinstance(event, Evaluated):
            evaluation = event.evaluation
            values = metrics.evaluation_metrics(evaluation)
            if evaluation is event.best:
                values[Metric.BEST_MEAN] = evaluation.summary.mean
            self._tracker.log(values, evaluation.env_steps)
            return
        for interval in event.metrics:
            values = metrics.interval_metrics(
                self._config, interval, event.steps_per_second, self._loop.observation_magnitudes
            )
            self._tracker.log(values, interval.env_steps)

    def _warn(self, *texts: str) -> None:
        for text in texts:
            self._run.listener(Warned(text))

    # -- The record

    @contextmanager
    def _recorded(self) -> Iterator[_OpenRecord]:
        """Open the record in a thread, and close it with the true status whatever happens.

        The components are closed before the record.
        """
        with ThreadPoolExecutor(1) as pool:
            record = _OpenRecord(pool.submit(self._tracker.start, self._header))
            try:
                with closing(self._components):
                    yield record
                self._warn(*self._components.warnings())
            except BaseException as error:
                with self._interrupts.deferred():
                    wait([record.opened])
                    self._fail(error)
                if isinstance(error, KeyboardInterrupt):
                    raise self._interruption_by(error) from error
                raise
            with self._interrupts.deferred():
                status = record.result.status
                finished = status is RunStatus.FINISHED
                record.problems = self._tracker.finish(status, patiently=finished)
            if self._checkpoints.problem:
                record.problems.insert(0, self._checkpoints.problem)

    def _fail(self, error: BaseException) -> None:
        """Close the record of a run that an exception has ended, and add notes to the exception."""
        killed = isinstance(error, KeyboardInterrupt | SystemExit | InterruptedRun)
        with suppress(OSError):  # no space for a copy
            if not self._has_config:
                self._artifacts.add_config()
            self._artifacts.add_newest_checkpoint()
        if isinstance(error, EnvironmentFailedError):
            steps = f"environment step {self._loop.env_steps:,}"
            error.add_note(f"this was after iteration {self._loop.iteration:,}, {steps}")
        self._tracker.describe(descriptions.interrupted(self._config, error))
        status = RunStatus.KILLED if killed else RunStatus.FAILED
        for problem in self._tracker.finish(status, patiently=not killed):
            error.add_note(problem)
        last = self._checkpoints.last_iteration
        if last < 0 and self._run.checkpoint is not None:
            last = self._run.checkpoint.iteration
        if last >= 0 and self._tracker.run_id is not None:
            error.add_note(
                f"the checkpoint of iteration {last:,} is kept; `{self._resume_command}` "
                "continues from it"
            )

    def _interruption_by(self, error: KeyboardInterrupt) -> InterruptedRun:
        """Return the error of a run that a second signal, or its environment, has ended at once."""
        interruption = InterruptedRun(
            f"interrupted at once after {self._loop.iteration:,} of "
            f"{self._config.training.num_iterations:,} iterations"
        )
        for note in getattr(error, "__notes__", ()):
            interruption.add_note(note)
        return interruption

    def _what_is_kept(self) -> str:
        """Return a clause on what an interrupted run has recorded and how to continue it."""
        if self._tracker.folder is None:
            return "nothing is recorded"
        if self._tracker.run_id is None:
            return "the training so far is kept, and can be resumed once its store has the run"
        return (
            f"the training so far is recorded in the run {self._run.name!r} as KILLED; "
            f"`{self._resume_command}` continues it"
        )

    @property
    def _resume_command(self) -> str | None:
        return self._tracker.command_line("train", resume=(self._tracker.run_id or "")[:_SHORT_ID])

    # -- Checkpoints

    @property
    def _clocks(self) -> Clocks:
        before = self._clocks_before
        return Clocks(
            total_seconds=before.total_seconds + time.perf_counter() - self._began,
            training_seconds=self._training_seconds,
            training_steps=self._training_steps,
            checkpoints=before.checkpoints + self._checkpoints.count,
            checkpoint_seconds=before.checkpoint_seconds + self._checkpoints.seconds,
            checkpoint_megabytes=self._checkpoints.megabytes or before.checkpoint_megabytes,
            compile_seconds=before.compile_seconds + self._compile_seconds,
        )

    def _make_checkpoint(self) -> Checkpoint | None:
        """Return a checkpoint; None if a replay server on another host cannot write its part."""
        try:
            return Checkpoint(
                config=loading.dump(self._config),
                iteration=self._loop.iteration,
                loop=self._loop.state(),
                evaluations=self._history.evaluations,
                best=self._history.best_index,
                best_weights=self._history.best_weights,
                clocks=self._clocks,
            )
        except OSError as error:
            self._checkpoints.failed(self._loop.iteration, error)
            return None

    def _write_checkpoint(self) -> None:
        """Write a checkpoint.

        Raises:
          TrainingDivergedError: If weights are not finite; the checkpoint before is kept.
        """
        checkpoint = self._make_checkpoint()
        if checkpoint is None:
            return
        if not checkpoint.is_finite:
            raise TrainingDivergedError(
                f"weights of the agent became infinite or NaN before iteration "
                f"{checkpoint.iteration:,}; lower optimizer.learning_rate or set "
                "agent.gradient_clipping"
            )
        self._checkpoints.write(checkpoint)


class _OpenRecord:
    """The record of a run while it is open, and the result that closes it."""

    result: TrainResult

    def __init__(self, opened: Future[list[str]]) -> None:
        self.opened = opened
        """Warnings of `Tracker.start`, once the record is open."""
        self.problems: list[str] = []
        """Descriptions of what the store did not receive, once the record is closed."""

    def closed_result(self) -> TrainResult:
        """Return the result with the problems of closing the record."""
        return replace(self.result, problems=self.problems)
