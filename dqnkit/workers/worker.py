"""The worker's side: loads TensorFlow once and trains what it is given."""

from __future__ import annotations

import gc
import os
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from dqnkit._system import memory
from dqnkit._system.redaction import redact_secrets
from dqnkit.errors import ConfigError, DqnkitError, InterruptedRun, TrainingDivergedError
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts
from dqnkit.processes.launcher import detach_from_terminal
from dqnkit.runs.reporting import Progress, SilentReporter
from dqnkit.tracking import make_tracker
from dqnkit.tracking.tracker import Tracker
from dqnkit.workers.messages import (
    Advanced,
    Began,
    Ended,
    Evaluated,
    Failed,
    Interrupt,
    Interrupted,
    Message,
    Ready,
    Retired,
    Task,
    Verdict,
)

_ORPHAN_SECONDS = 30.0
"""How long a worker whose parent has died may take to close its run."""


def serve(connection: Connection, said: str | None, most_memory: int) -> None:
    """Trains until the connection closes or the parent dies.

    What XLA has compiled stays in memory until the process ends, some 40 MB a training.

    Args:
      connection: To the pool.
      said: A file that takes what environments print, and the last words of this process; None
        where whoever started it sees to that, and to the terminal's signals.
      most_memory: Bytes; a process that holds more after a run leaves.
    """
    if said is not None:
        detach_from_terminal(said)
    orphaned = _Orphaned()
    try:
        from dqnkit.runs.trainer import train as _  # noqa: F401 - seconds, before the first task

        while memory.process_memory() <= most_memory:
            connection.send(Ready())
            # What comes late for a run that has ended means nothing.
            while not isinstance(task := connection.recv(), Task):
                pass
            _train(task, connection, orphaned)
            # A training's graphs are rings of references, and hold its replay.
            gc.collect()
        connection.send(Retired())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Orphaned:
    """Notices that the parent has died: the training ends then, and the process."""

    def __init__(self) -> None:
        self._interrupts = Interrupts()
        self._alone = False
        threading.Thread(target=self._watch, daemon=True).start()

    def watch_over(self, interrupts: Interrupts) -> None:
        """Lets these end the training that begins now."""
        self._interrupts = interrupts
        if self._alone:
            interrupts.end(RunStatus.KILLED)

    def _watch(self) -> None:
        parent = parent_process()
        if parent is None:
            return
        wait([parent.sentinel])
        self._alone = True
        self._interrupts.end(RunStatus.KILLED)
        time.sleep(_ORPHAN_SECONDS)
        os._exit(1)


def _train(task: Task, connection: Connection, orphaned: _Orphaned) -> None:
    from dqnkit.runs.trainer import train

    interrupts = Interrupts()
    orphaned.watch_over(interrupts)
    try:
        tracker = make_tracker(task.config, task.tracking_uri, task.belongs_to)
    except DqnkitError as error:
        connection.send(Failed(None, str(error), again=False))
        return
    reporter = _Reporter(task, connection, interrupts, tracker)
    try:
        result = train(task.config, tracker, reporter, task.run_name, interrupts)
    except InterruptedRun:
        connection.send(Interrupted(tracker.run_id))
    except DqnkitError as error:
        again = not isinstance(error, ConfigError | TrainingDivergedError)
        connection.send(Failed(tracker.run_id, redact_secrets(str(error)), again))
    except Exception as error:  # whatever an environment or the system raises costs this run only
        cause = redact_secrets(f"{type(error).__name__}: {error}")
        connection.send(Failed(tracker.run_id, cause, again=True))
    else:
        connection.send(
            Ended(
                run_id=result.run_id,
                run_name=result.run_name,
                status=result.status,
                env_steps=result.env_steps,
                seconds=result.seconds,
                steps_per_second=result.steps_per_second,
                evaluations=result.evaluations,
                late=result.late,
                final=result.final,
                problems=tuple(result.problems),
            )
        )


class _Reporter(SilentReporter):
    """Passes on what training tells, and hears whether to end (`Reporter`)."""

    def __init__(
        self, task: Task, connection: Connection, interrupts: Interrupts, tracker: Tracker
    ) -> None:
        self._task = task
        self._connection = connection
        self._interrupts = interrupts
        self._tracker = tracker
        self._evaluations: list[Evaluation] = []

    def started(self, compile_seconds: float, iteration: int) -> None:
        """See `Reporter`."""
        del compile_seconds, iteration
        self._tell(Began(self._tracker.run_id))

    def progressed(self, progress: Progress) -> None:
        """See `Reporter`."""
        self._tell(Advanced(progress.iteration, progress.env_steps, progress.steps_per_second))

    def evaluated(self, evaluation: Evaluation, best: Evaluation) -> None:
        """See `Reporter`."""
        del best
        self._evaluations.append(evaluation)
        # The first is of a policy that has learned nothing, the last ends the run anyway.
        ended = evaluation.iteration >= self._task.config.training.num_iterations
        asks = self._task.asks and len(self._evaluations) > 1 and not ended
        late = late_episodes(self._evaluations)
        self._tell(Evaluated(evaluation, late, asks), waits=asks and not self._interrupts)

    def _tell(self, message: Message, *, waits: bool = False) -> None:
        """Sends, and hears what has come; the run ends where nobody is there any more."""
        try:
            self._connection.send(message)
            while waits or self._connection.poll():
                self._obey(self._connection.recv())
                waits = False
        except (EOFError, OSError):
            self._interrupts.end(RunStatus.KILLED)

    def _obey(self, order: Verdict | Interrupt) -> None:
        if isinstance(order, Interrupt):
            self._interrupts.end(RunStatus.KILLED)
        elif not order.go_on and not self._interrupts:
            self._interrupts.end(RunStatus.FINISHED)
