"""One run: a loop, with evaluation, the best policy, the record and the files hung on it."""

from __future__ import annotations

import concurrent.futures
import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dqnkit import checkpoint, experiments, plots
from dqnkit.config import Config
from dqnkit.errors import InterruptedRun, TrainingDivergedError
from dqnkit.evaluation import Episodes, Evaluation, late_episodes
from dqnkit.policies import Weights
from dqnkit.resolution import resolve
from dqnkit.specs import EnvSpec
from dqnkit.tracking import policy_files
from dqnkit.tracking.policy_files import PolicyFiles
from dqnkit.tracking.records import LATE_IQM
from dqnkit.tracking.tracker import NullTracker, RunRecord, Status, Tracker
from dqnkit.training import descriptions
from dqnkit.training.interrupts import Interrupts, noticed
from dqnkit.training.parts import Parts, build
from dqnkit.training.reporting import Progress, Reporter, SilentReporter

CHUNK_SECONDS = 0.25
"""What a chunk should take: a display that moves, a Ctrl-C that is heard, few calls."""
_FIRST_CHUNK = 10


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    experiment: str
    run_name: str
    run_id: str | None
    status: Status
    iterations: int
    env_steps: int
    seconds: float
    """From the call to the last episode: compilation and training."""
    compile_seconds: float
    training_seconds: float
    """In the training loop alone."""
    steps_per_second: float
    """Environment steps a second of the training loop alone."""
    last: Evaluation
    best: Evaluation
    final: Evaluation
    """Of the best policy, on fresh episodes."""
    late: Episodes
    """Those of the last evaluations together (`LATE_EVALUATIONS`)."""
    evaluations: tuple[Evaluation, ...]
    """All, in their order."""
    hints: dict[str, str] = field(default_factory=dict)
    """Where to look at the record."""
    problems: list[str] = field(default_factory=list)
    """What could not be recorded."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, with statistics in place of episodes."""
        names = [each.name for each in fields(self) if each.name != "evaluations"]
        document = {name: getattr(self, name) for name in names}
        return document | {
            "last": {"env_steps": self.last.env_steps, **asdict(self.last.summary)},
            "best": {"env_steps": self.best.env_steps, **asdict(self.best.summary)},
            "final": self.final.statistics(),
            "late": self.late.statistics(),
        }


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
      TrackingError: The store cannot be reached; nothing was trained.
      InterruptedRun: SIGINT or SIGTERM came; what there was is recorded, as KILLED.
      TrainingDivergedError: The loss is not finite; the record says FAILED.
    """
    tracker, reporter = tracker or NullTracker(), reporter or SilentReporter()
    config, spec = resolve(config)
    run = _Run(config, spec, run_name or descriptions.run_name(config), tracker)
    reporter.preparing(config, run.name)
    with noticed(interrupts) as interrupted, run.recorded(interrupted) as opened, run.resources:
        run.prepare()
        opened.result()  # the record was opened beside the compilation
        run.keep_config()
        reporter.started(run.compile_seconds)
        for event in run.events(interrupted):
            run.record(event)
            if isinstance(event, Progress):
                reporter.progressed(event)
            else:
                reporter.evaluated(event, run.best)
        run.conclude(Status.FINISHED if run.is_complete else interrupted.status or Status.FINISHED)
    if run.result.status is Status.KILLED and interrupted.signal is not None:
        kept = f"what was trained until then is recorded in the run {run.name!r} as KILLED"
        raise InterruptedRun(
            f"interrupted by {interrupted.signal.name} after {run.parts.loop.iteration:,} of "
            f"{config.training.num_iterations:,} iterations; "
            f"{kept if tracker.run_id else 'nothing is recorded: tracking is off'}"
        )
    return run.result


class _Run:
    """The parts of one run and what it has come to until now."""

    parts: Parts
    best: Evaluation
    result: TrainResult

    def __init__(self, config: Config, spec: EnvSpec, name: str, tracker: Tracker) -> None:
        self._config = config
        self._spec = spec
        self._tracker = tracker
        self._evaluations: list[Evaluation] = []
        self._best_weights: Weights = np.zeros(0, np.float32)
        self._total = config.training.num_iterations
        self._began = time.perf_counter()
        self._training_seconds = 0.0
        self._training_steps = 0
        self.name = name
        self.compile_seconds = 0.0
        self.resources = ExitStack()

    @contextmanager
    def recorded(self, interrupts: Interrupts) -> Iterator[concurrent.futures.Future[None]]:
        """Opens the record in a thread, and closes it with the true status, come what may."""
        record = RunRecord(
            experiment=self._config.name,
            run_name=self.name,
            params=self._config.flat(),
            tags=descriptions.tags(self._config),
            description=descriptions.before(self._config),
        )
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            opened = pool.submit(self._tracker.start, record)
            try:
                yield opened
            except BaseException as error:
                with interrupts.held_off():
                    concurrent.futures.wait([opened])
                    self._tracker.describe(descriptions.broken_off(self._config, error))
                    killed = isinstance(error, KeyboardInterrupt | SystemExit)
                    self._tracker.finish(Status.KILLED if killed else Status.FAILED)
                raise
            with interrupts.held_off():
                problems = self._tracker.finish(self.result.status)
            self.result = replace(self.result, problems=problems)

    @property
    def is_complete(self) -> bool:
        """Whether all iterations are done: then nothing was interrupted."""
        return self.parts.loop.iteration >= self._total

    def prepare(self) -> None:
        """Builds and compiles loop and evaluation."""
        start = time.perf_counter()
        self.parts = build(self._config, self._spec)
        self.resources.callback(self.parts.close)
        self.parts.loop.start()
        self.parts.evaluator.prepare()
        self.compile_seconds = time.perf_counter() - start

    def events(self, interrupted: Interrupts) -> Iterator[Progress | Evaluation]:
        """Trains chunk by chunk and evaluates before, at each interval, and after."""
        total = self._total
        interval = self._config.evaluation.eval_interval
        chunk = _FIRST_CHUNK
        yield self._evaluate()
        while self.parts.loop.iteration < total and not interrupted:
            until = min(total, (self.parts.loop.iteration // interval + 1) * interval)
            size = min(chunk, until - self.parts.loop.iteration)
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
                yield self._evaluate()
        rest = self.parts.loop.flush()
        if rest:
            rate = self._training_steps / self._training_seconds
            yield Progress(self.parts.loop.iteration, self.parts.loop.env_steps, tuple(rest), rate)
        if self._evaluations[-1].iteration < self.parts.loop.iteration:
            yield self._evaluate()

    def record(self, event: Progress | Evaluation) -> None:
        """Sends the event's metrics to the tracker.

        Raises:
          TrainingDivergedError: A loss is infinite or NaN though there were updates.
        """
        if isinstance(event, Evaluation):
            self._tracker.log(_evaluation_metrics(event), event.env_steps)
            if event is self.best:
                self._tracker.log({"best/return_mean": event.summary.mean}, event.env_steps)
            return
        updates = self._config.training.gradient_steps_per_iteration > 0
        for metrics in event.metrics:
            if updates and not math.isfinite(metrics.loss):
                huber = "" if self._config.agent.is_categorical else ", or use agent.loss=huber"
                raise TrainingDivergedError(
                    f"the loss became {metrics.loss} at iteration {metrics.iteration:,}; lower "
                    f"optimizer.learning_rate or set agent.gradient_clipping{huber}"
                )
            values = {
                "train/loss": metrics.loss,
                f"train/{self._config.exploration.parameter}": metrics.exploration,
                "train/return_mean": metrics.return_mean,
                "train/length_mean": metrics.length_mean,
                "train/episodes": float(metrics.episodes),
                "train/steps_per_second": event.steps_per_second,
            }
            self._tracker.log(values, metrics.env_steps)

    def conclude(self, status: Status) -> None:
        """Plays the best policy on fresh episodes and keeps all files."""
        final = self._evaluate_best(in_full=self.is_complete)
        late = late_episodes(self._evaluations)
        self.result = TrainResult(
            experiment=self._config.name,
            run_name=self.name,
            run_id=self._tracker.run_id,
            status=status,
            iterations=self.parts.loop.iteration,
            env_steps=self.parts.loop.env_steps,
            seconds=time.perf_counter() - self._began,
            compile_seconds=self.compile_seconds,
            training_seconds=self._training_seconds,
            steps_per_second=self._training_steps / max(self._training_seconds, 1e-9),
            last=self._evaluations[-1],
            best=self.best,
            final=final,
            late=late,
            evaluations=tuple(self._evaluations),
            hints=self._tracker.hints(),
        )
        values = final.metrics("final") | {
            LATE_IQM: late.summary.iqm,
            "late/episodes": float(late.summary.n),
            "time/total_seconds": self.result.seconds,
            "time/compile_seconds": self.result.compile_seconds,
            "time/training_seconds": self.result.training_seconds,
            "time/steps_per_second": self.result.steps_per_second,
        }
        self._tracker.log(values, self.parts.loop.env_steps)
        self._tracker.describe(descriptions.after(self._config, self.best, final))
        if self._tracker.keeps_files:
            self._keep_files(final)

    def keep_config(self) -> None:
        """Keeps what repeats the run, from its first moment."""
        if self._tracker.keeps_files:
            with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
                text = experiments.dump(self._config)
                (Path(scratch) / "config.yaml").write_text(text, encoding="utf-8")
                self._tracker.artifacts(Path(scratch))

    def _evaluate(self) -> Evaluation:
        weights = self.parts.loop.policy_weights()
        self.parts.policy.set_weights(weights)
        returns, lengths = self.parts.evaluator.play(self.parts.loop.iteration)
        evaluation = Evaluation(
            iteration=self.parts.loop.iteration,
            env_steps=self.parts.loop.env_steps,
            returns=tuple(returns.tolist()),
            lengths=tuple(lengths.tolist()),
        )
        self._evaluations.append(evaluation)
        # Of equals the later: it has seen more.
        if len(self._evaluations) == 1 or evaluation.summary.mean >= self.best.summary.mean:
            self.best, self._best_weights = evaluation, weights
        return evaluation

    def _evaluate_best(self, *, in_full: bool) -> Evaluation:
        """Episodes that no choice was made by: those at negative counters."""
        self.parts.policy.set_weights(self._best_weights)
        wanted = self._config.evaluation.final_episodes
        if not in_full:  # somebody is waiting
            wanted = min(wanted, self._config.evaluation.num_eval_episodes)
        batches = -(-wanted // self._config.evaluation.num_eval_episodes)
        played = [self.parts.evaluator.play(-1 - batch) for batch in range(batches)]
        returns = np.concatenate([batch[0] for batch in played])[:wanted]
        lengths = np.concatenate([batch[1] for batch in played])[:wanted]
        return Evaluation(
            iteration=self.best.iteration,
            env_steps=self.best.env_steps,
            returns=tuple(returns.tolist()),
            lengths=tuple(lengths.tolist()),
        )

    def _keep_files(self, final: Evaluation) -> None:
        with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
            folder = Path(scratch) / "artifacts"
            (folder / "checkpoints").mkdir(parents=True)
            document = {
                "evaluations": [evaluation.as_dict() for evaluation in self._evaluations],
                "best": self.best.as_dict(),
                "final": final.as_dict() | {"iqm_interval": list(final.interval)},
            }
            (folder / "evaluation.json").write_text(json.dumps(document), encoding="utf-8")
            title = (
                f"{self._config.name} ({self._config.env.id}), seed {self._config.training.seed}"
            )
            plots.learning_curve(self._evaluations, title, folder / "learning_curve.png")
            checkpoint.save(folder / "checkpoints" / "last.npz", self.parts.loop.state())
            best = {"online": self._best_weights}
            checkpoint.save(folder / "checkpoints" / "best.npz", best)
            self._tracker.artifacts(folder)
            saved_model = Path(scratch) / policy_files.SAVED_MODEL.name
            self.parts.policy.set_weights(self._best_weights)
            self.parts.policy.save(saved_model)
            config = Path(scratch) / policy_files.CONFIG.name
            config.write_text(experiments.dump(self._config), encoding="utf-8")
            self._tracker.policy(PolicyFiles(saved_model, config, self._spec))


def _evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    summary = evaluation.summary
    return {
        "eval/return_mean": summary.mean,
        "eval/return_std": summary.std,
        "eval/return_min": summary.min,
        "eval/return_max": summary.max,
        "eval/return_iqm": summary.iqm,
        "eval/length_mean": float(np.mean(evaluation.lengths)),
    }
