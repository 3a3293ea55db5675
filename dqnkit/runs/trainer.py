"""One run: a loop, with evaluation, the best policy, the record and the files hung on it."""

from __future__ import annotations

import concurrent.futures
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import EnvironmentFailedError, InterruptedRun, TrainingDivergedError
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts, catch_signals
from dqnkit.runs import artifacts, descriptions, metrics
from dqnkit.runs.checkpoints import Checkpoints, copy_newest
from dqnkit.runs.components import Parts, build
from dqnkit.runs.history import History
from dqnkit.runs.reporting import Progress, Reporter, SilentReporter
from dqnkit.runs.result import TrainResult
from dqnkit.runs.resumption import Resumption
from dqnkit.runs.snapshot import Clocks, Snapshot
from dqnkit.tracking.tracker import NullTracker, RunRecord, Tracker

CHUNK_SECONDS = 0.25
"""What a chunk should take: a display that moves, a Ctrl-C that is heard, few calls."""
_FIRST_CHUNK = 10
_SHORT_ID = 8


def train(
    config: Config,
    tracker: Tracker | None = None,
    reporter: Reporter | None = None,
    run_name: str | None = None,
    interrupts: Interrupts | None = None,
) -> TrainResult:
    """Trains once, evaluates at intervals, and records it all.

    Args:
      config: Decides everything; the same one gives the same curve, bit for bit.
      tracker: Where the run is recorded; nowhere by default.
      reporter: Hears of progress.
      run_name: In the record; experiment, seed and a short id by default.
      interrupts: By which others than signals may end the run early.

    Raises:
      ConfigError: The configuration cannot be run.
      TrackingError: The store cannot be used; nothing was trained.
      InterruptedRun: SIGINT or SIGTERM came; what there was is recorded, as KILLED, with a
        checkpoint to go on from.
      TrainingDivergedError: The loss is not finite; the record says FAILED.
    """
    config, spec = resolve(config)
    name = run_name or descriptions.run_name(config)
    run = _Run(config, spec, name, tracker or NullTracker())
    return _trained(run, reporter or SilentReporter(), interrupts)


def resume(
    resumption: Resumption,
    tracker: Tracker,
    reporter: Reporter | None = None,
    interrupts: Interrupts | None = None,
) -> TrainResult:
    """Goes on with a run that ended before its time, in the record that it has.

    In the graph loop all that follows is what would have followed, bit for bit. In the host loop
    new episodes begin; all else goes on.

    Args:
      resumption: What it goes on from.
      tracker: Of the store that has the record.
      reporter: Hears of progress.
      interrupts: See `train`.

    Raises:
      ConfigError: The checkpoint is not of this configuration, as this version reads it.
      BusyRunError: Another process goes on with it, or has done so since it was looked for.
      Anything that `train` does.
    """
    config, spec = resolve(resumption.config)
    run = _Run(config, spec, resumption.run_name, tracker, resumption)
    return _trained(run, reporter or SilentReporter(), interrupts)


def _trained(run: _Run, reporter: Reporter, interrupts: Interrupts | None) -> TrainResult:
    reporter.preparing(run.config, run.name)
    with catch_signals(interrupts) as interrupted:
        record = run.to_record()
        run.make_parts(interrupted)  # what cannot be made leaves no record
        with run.recorded(record, interrupted) as opened:
            run.compile()
            notes = opened.result()  # the record was opened beside the compilation
            run.keep_config()
            for note in (*run.warnings, *notes):
                reporter.warned(note)
            reporter.started(run.compile_seconds, run.parts.loop.iteration)
            for event in run.events(interrupted):
                for note in run.parts.loop.notes():
                    reporter.warned(note)
                run.record(event)
                if isinstance(event, Progress):
                    reporter.progressed(event)
                else:
                    reporter.evaluated(event, run.history.best)
            status = interrupted.status or RunStatus.FINISHED
            run.conclude(RunStatus.FINISHED if run.is_complete else status)
    if run.result.status is RunStatus.KILLED and interrupted.signal is not None:
        interruption = InterruptedRun(
            f"interrupted by {interrupted.signal.name} after {run.parts.loop.iteration:,} of "
            f"{run.config.training.num_iterations:,} iterations; {run.what_is_kept()}"
        )
        for problem in run.result.problems:
            interruption.add_note(problem)
        raise interruption
    return run.result


class _Run:
    """The parts of one run and what it has come to until now."""

    parts: Parts
    history: History
    result: TrainResult

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        name: str,
        tracker: Tracker,
        resumption: Resumption | None = None,
    ) -> None:
        self.config = config
        self._spec = spec
        self._tracker = tracker
        self._resumption = resumption
        self._snapshot = resumption.snapshot if resumption else None
        self._before = self._snapshot.clocks if self._snapshot else Clocks()
        self._total = config.training.num_iterations
        self._began = time.perf_counter()
        self._training_seconds = self._before.training_seconds
        self._training_steps = self._before.training_steps
        self._checkpoints = Checkpoints(None, None)
        self.warnings = resumption.warnings if resumption else ()
        self.name = name
        self.compile_seconds = 0.0

    @property
    def _repeats(self) -> bool:
        """Whether what an earlier process told after the checkpoint will be told again, the same.

        In the host loop other episodes follow, whose points stand beside the others then.
        """
        is_exact = self._snapshot is None or self.config.training.loop == "graph"
        return self._resumption is not None and is_exact

    def to_record(self) -> RunRecord:
        """What is known before it begins."""
        return RunRecord(
            experiment=self.config.name,
            run_name=self.name,
            params=self.config.flat(),
            tags=self._tags(),
            description=descriptions.before(self.config),
            continues=self._resumption.run_id if self._resumption else None,
            last_ended=self._resumption.ended if self._resumption else None,
            repeats=self._repeats,
        )

    @contextmanager
    def recorded(
        self, record: RunRecord, interrupts: Interrupts
    ) -> Iterator[concurrent.futures.Future[list[str]]]:
        """Opens the record in a thread, and closes it with the true status, come what may.

        The parts of the run end before it does.
        """
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            opened = pool.submit(self._tracker.start, record)
            try:
                with closing(self.parts):
                    yield opened
            except BaseException as error:
                with interrupts.held_off():
                    concurrent.futures.wait([opened])
                    killed = isinstance(error, KeyboardInterrupt | SystemExit)
                    self._keep_last_checkpoint()
                    self._say_where(error)
                    self._tracker.describe(descriptions.broken_off(self.config, error))
                    status = RunStatus.KILLED if killed else RunStatus.FAILED
                    problems = self._tracker.finish(status, patiently=not killed)
                    self._explain(error, problems)
                raise
            with interrupts.held_off():
                done = self.result.status is RunStatus.FINISHED
                problems = self._tracker.finish(self.result.status, patiently=done)
            trouble = [self._checkpoints.trouble] if self._checkpoints.trouble else []
            self.result = replace(self.result, problems=trouble + problems)

    @property
    def is_complete(self) -> bool:
        """Whether all iterations are done: then nothing was interrupted."""
        return self.parts.loop.iteration >= self._total

    def make_parts(self, interrupted: Interrupts) -> None:
        """Makes loop and evaluation, as the checkpoint has them where there is one.

        Raises:
          ConfigError: They cannot be made here, or are not those of the checkpoint.
          ReplayError: The server of the replay does not answer.
        """
        start = time.perf_counter()
        with ExitStack() as unfinished:
            self.parts = build(self.config, self._spec, lambda: interrupted)
            unfinished.callback(self.parts.close)
            if self._snapshot is not None:
                self.parts.loop.restore(self._snapshot.loop)
            self.parts.loop.check()
            unfinished.pop_all()
        self.history = History(self.parts, self.config.evaluation, self._snapshot)
        self.compile_seconds = time.perf_counter() - start

    def compile(self) -> None:
        """Makes them ready to go on at once."""
        start = time.perf_counter()
        self.parts.loop.start()
        self.parts.evaluator.prepare()
        self.compile_seconds += time.perf_counter() - start

    def events(self, interrupted: Interrupts) -> Iterator[Progress | Evaluation]:
        """Trains chunk by chunk and evaluates before, at each interval, and after."""
        total = self._total
        interval = self.config.evaluation.eval_interval
        chunk = _FIRST_CHUNK
        self._checkpoints = Checkpoints(
            self._tracker.folder, self.config.training.checkpoint_interval
        )
        if not self.history.evaluations:
            yield self.history.evaluate()
        while self.parts.loop.iteration < total and not interrupted:
            iteration = self.parts.loop.iteration
            until = min(total, (iteration // interval + 1) * interval)
            stop = min(until, self._checkpoints.stop_after(iteration, total))
            size = min(chunk, stop - iteration)
            steps, start = self.parts.loop.env_steps, time.perf_counter()
            metrics = self.parts.loop.advance(size)
            seconds = time.perf_counter() - start
            self._training_seconds += seconds
            self._training_steps += self.parts.loop.env_steps - steps
            chunk = max(1, int(size * CHUNK_SECONDS / seconds))
            yield Progress(
                self.parts.loop.iteration,
                self.parts.loop.env_steps,
                tuple(metrics),
                (self.parts.loop.env_steps - steps) / seconds,
            )
            if self.parts.loop.iteration == until:
                yield self.history.evaluate()
            if self._checkpoints.is_due(self.parts.loop.iteration):
                self._write_checkpoint()
        if not self.is_complete:  # what is under way is still to come, when the run goes on
            self._write_checkpoint()
            return
        rest = self.parts.loop.flush()
        if rest:
            rate = self._training_steps / self._training_seconds
            yield Progress(self.parts.loop.iteration, self.parts.loop.env_steps, tuple(rest), rate)
        if self.history.evaluations[-1].iteration < self.parts.loop.iteration:
            yield self.history.evaluate()

    def record(self, event: Progress | Evaluation) -> None:
        """Sends the event's metrics to the tracker.

        Raises:
          TrainingDivergedError: A loss is infinite or NaN though there were updates.
        """
        if isinstance(event, Evaluation):
            self._tracker.log(metrics.evaluation(event), event.env_steps)
            if event is self.history.best:
                self._tracker.log({"best/return_mean": event.summary.mean}, event.env_steps)
            return
        for interval in event.metrics:
            metrics.check_loss(self.config, interval)
            values = metrics.training(self.config, interval)
            values["train/steps_per_second"] = event.steps_per_second
            self._tracker.log(values, interval.env_steps)

    def conclude(self, status: RunStatus) -> None:
        """Plays the best policy on fresh episodes and keeps all files."""
        evaluations, best = self.history.evaluations, self.history.best
        final = self.history.play_best(in_full=self.is_complete)
        self.result = TrainResult(
            experiment=self.config.name,
            run_name=self.name,
            run_id=self._tracker.run_id,
            status=status,
            iterations=self.parts.loop.iteration,
            env_steps=self.parts.loop.env_steps,
            seconds=self._clocks().total_seconds,
            compile_seconds=self.compile_seconds,
            training_seconds=self._training_seconds,
            steps_per_second=self._training_steps / max(self._training_seconds, 1e-9),
            last=evaluations[-1],
            best=best,
            final=final,
            late=late_episodes(evaluations),
            evaluations=evaluations,
            checkpoints=self._clocks().checkpoints,
            checkpoint_seconds=self._clocks().checkpoint_seconds,
            checkpoint_megabytes=self._checkpoints.megabytes,
            hints=self._tracker.hints(),
        )
        self._tracker.log(metrics.conclusion(self.result), self.parts.loop.env_steps)
        self._tracker.describe(descriptions.after(self.config, best, final))
        if self._tracker.keeps_files:
            self._keep_files(final)

    def what_is_kept(self) -> str:
        """For the message of an interruption: where it is recorded, and how it goes on."""
        if self._tracker.folder is None:
            return "nothing is recorded: tracking is off"
        if self._tracker.run_id is None:
            return "what was trained until then is kept, and goes on once its store has the run"
        return (
            f"what was trained until then is recorded in the run {self.name!r} as KILLED; "
            f"`{self._goes_on_by()}` goes on"
        )

    def _goes_on_by(self) -> str | None:
        return self._tracker.command(f"train --resume {(self._tracker.run_id or '')[:_SHORT_ID]}")

    def _tags(self) -> dict[str, str]:
        tags = descriptions.tags(self.config)
        if self._resumption is None:
            return tags
        del tags["dqnkit.command"]  # that which began it stays
        at = self._snapshot.iteration if self._snapshot else 0
        return tags | {"dqnkit.resumed_at": f"{at}"}

    def _clocks(self) -> Clocks:
        before = self._before
        return Clocks(
            total_seconds=before.total_seconds + time.perf_counter() - self._began,
            training_seconds=self._training_seconds,
            training_steps=self._training_steps,
            checkpoints=before.checkpoints + self._checkpoints.count,
            checkpoint_seconds=before.checkpoint_seconds + self._checkpoints.seconds,
        )

    def _take_snapshot(self) -> Snapshot:
        return Snapshot(
            config=loading.dump(self.config),
            iteration=self.parts.loop.iteration,
            loop=self.parts.loop.state(),
            evaluations=self.history.evaluations,
            best=self.history.best_index,
            best_weights=self.history.best_weights,
            clocks=self._clocks(),
        )

    def _last_snapshot(self) -> Snapshot | None:
        """None where the replay is another program's, which does not write it."""
        try:
            return self._take_snapshot()
        except OSError as error:
            self._checkpoints.fail(self.parts.loop.iteration, error)
            return None

    def _write_checkpoint(self) -> None:
        """Writes one, unless the weights are beyond use.

        Raises:
          TrainingDivergedError: They are; the checkpoint before is kept.
        """
        snapshot = self._last_snapshot()
        if snapshot is None:
            return
        if not snapshot.is_finite:
            raise TrainingDivergedError(
                f"weights of the agent became infinite or NaN before iteration "
                f"{snapshot.iteration:,}; lower optimizer.learning_rate or set "
                "agent.gradient_clipping"
            )
        self._tracker.secure()
        self._checkpoints.write(snapshot.iteration, snapshot.arrays())

    def _keep_last_checkpoint(self) -> None:
        if self._tracker.keeps_files:
            with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch, suppress(OSError):
                if copy_newest(self._tracker.folder, Path(scratch)):
                    self._tracker.artifacts(Path(scratch))

    def _say_where(self, error: BaseException) -> None:
        """An environment does not know what training had come to when it failed."""
        if isinstance(error, EnvironmentFailedError):
            loop = self.parts.loop
            error.add_note(
                f"that was after iteration {loop.iteration:,}, environment step {loop.env_steps:,}"
            )

    def _explain(self, error: BaseException, problems: list[str]) -> None:
        """Adds to an error what is kept all the same."""
        for problem in problems:
            error.add_note(problem)
        last = self._checkpoints.last_iteration
        if last < 0 and self._snapshot is not None:
            last = self._snapshot.iteration
        if last >= 0 and self._tracker.run_id is not None:
            error.add_note(
                f"the checkpoint of iteration {last:,} is kept; "
                f"`{self._goes_on_by()}` goes on from it"
            )

    def keep_config(self) -> None:
        """Keeps what repeats the run, from its first moment."""
        if self._tracker.keeps_files:
            with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
                text = loading.dump(self.config)
                (Path(scratch) / "config.yaml").write_text(text, encoding="utf-8")
                self._tracker.artifacts(Path(scratch))

    def _keep_files(self, final: Evaluation) -> None:
        outcome = artifacts.Outcome(
            config=self.config,
            evaluations=self.history.evaluations,
            best=self.history.best,
            best_weights=self.history.best_weights,
            final=final,
        )
        with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
            folder = Path(scratch) / "artifacts"
            artifacts.write(outcome, self._last_snapshot(), folder)
            self._tracker.artifacts(folder)
            policy = artifacts.write_policy(outcome, self.parts.policy, Path(scratch) / "policy")
            self._tracker.policy(policy)
