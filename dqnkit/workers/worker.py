"""The worker process, which loads TensorFlow once and trains one run after another."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from types import FrameType

from dqnkit._system import memory
from dqnkit._system.text import one_line
from dqnkit.errors import (
    CheckpointError,
    ConfigError,
    DqnkitError,
    InterruptedRun,
    TrainingDivergedError,
)
from dqnkit.events import (
    Evaluated,
    Event,
    RunEnded,
    RunFailed,
    RunPreparing,
    RunStarted,
    RunStatus,
    WorkerReady,
    WorkerRetired,
)
from dqnkit.processes.interrupts import Interrupts
from dqnkit.processes.launcher import detach_from_terminal
from dqnkit.runs.trainer import resume, train
from dqnkit.workers.orders import PrunerDecision, StopRun, Task

_ORPHAN_SECONDS = 30.0
"""Time that a worker whose parent has died may take to close its run."""


def serve(connection: Connection, output: str | None, most_memory: int) -> None:
    """Train runs until the connection closes or the parent process dies.

    XLA keeps compiled code in memory until the process ends, some 40 MB per training.

    Args:
      connection: Connection to the pool.
      output: File for what environments print and for the last output of the process; None if the
        launcher takes care of output and signals.
      most_memory: Bytes; a process that holds more after a run exits.
    """
    orphan_watch = _OrphanWatch()
    if output is not None:
        detach_from_terminal(output)
        signal.signal(signal.SIGINT, orphan_watch.interrupt)
    try:
        import dqnkit._system.tensorflow  # noqa: F401 - takes seconds, before the first task

        gc.freeze()  # the collection after each run then skips what TensorFlow has loaded
        while memory.process_memory() <= most_memory:
            connection.send(WorkerReady())
            # Orders for a run that has just ended come too late.
            while not isinstance(task := connection.recv(), Task):
                pass
            _train(task, connection, orphan_watch)
            # The graphs of a run are reference cycles that hold its replay.
            gc.collect()
        connection.send(WorkerRetired())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _OrphanWatch:
    """Ends the training, and then the process, when the parent process dies."""

    def __init__(self) -> None:
        self._interrupts = Interrupts()
        self._is_orphaned = False
        self.is_preparing = False
        """True while a run is prepared, before it catches signals."""
        threading.Thread(target=self._watch, daemon=True).start()

    def watch_over(self, interrupts: Interrupts) -> None:
        """Set the interrupts of the training that begins now."""
        self._interrupts = interrupts
        if self._is_orphaned:
            interrupts.request(RunStatus.KILLED)

    def interrupt(self, number: int, _: FrameType | None) -> None:
        """Handle the signal of a pool whose order was not obeyed, while no run catches signals."""
        del number
        self._interrupts.request(RunStatus.KILLED)
        if self.is_preparing:  # perhaps in an environment that hangs
            raise KeyboardInterrupt

    def _watch(self) -> None:
        parent = parent_process()
        if parent is None:
            return
        wait([parent.sentinel])
        self._is_orphaned = True
        self._interrupts.request(RunStatus.KILLED)
        time.sleep(_ORPHAN_SECONDS)
        os._exit(1)


def _train(task: Task, connection: Connection, orphan_watch: _OrphanWatch) -> None:
    interrupts = Interrupts()
    orphan_watch.watch_over(interrupts)
    channel = _EventChannel(task, connection, interrupts, orphan_watch)
    orphan_watch.is_preparing = True
    try:
        if task.resumes is not None:
            resume(
                task.resumes,
                tracking_uri=task.tracking_uri,
                listener=channel.send,
                interrupts=interrupts,
            )
        else:
            train(
                task.config,
                tracking_uri=task.tracking_uri,
                listener=channel.send,
                run_name=task.run_name,
                parent=task.parent,
                interrupts=interrupts,
            )
    except KeyboardInterrupt:
        cause = "interrupted before it began"
        connection.send(RunFailed(None, cause, retryable=True, is_interrupted=True))
    except InterruptedRun as error:
        if not channel.has_ended:  # otherwise the pool knows by RunEnded
            cause = one_line(error, 2_000)
            # Without a request, the environment itself has raised KeyboardInterrupt.
            asked = bool(interrupts)
            connection.send(RunFailed(channel.run_id, cause, asked, is_interrupted=asked))
    except DqnkitError as error:
        retryable = not isinstance(error, ConfigError | CheckpointError | TrainingDivergedError)
        connection.send(RunFailed(channel.run_id, one_line(error, 2_000), retryable))
    except Exception as error:  # of an environment or the system; it ends only this run
        cause = one_line(f"{type(error).__name__}: {error}", 2_000)
        connection.send(RunFailed(channel.run_id, cause, retryable=True))
    finally:
        orphan_watch.is_preparing = False


class _EventChannel:
    """Sends the events of a run to the pool, and carries out the orders that come back."""

    def __init__(
        self,
        task: Task,
        connection: Connection,
        interrupts: Interrupts,
        orphan_watch: _OrphanWatch,
    ) -> None:
        self._orphan_watch = orphan_watch
        self._task = task
        self._connection = connection
        self._interrupts = interrupts
        self.run_id: str | None = None
        """MLflow's id of the run, once it has started."""
        self.has_ended = False
        """True once the pool has received the result."""

    def send(self, event: Event) -> None:
        """Send an event, and handle pending orders: a listener."""
        if isinstance(event, RunPreparing):  # the pool has assigned the run
            self._orphan_watch.is_preparing = False
            return
        if isinstance(event, RunStarted):
            self.run_id = event.run_id
        self.has_ended = self.has_ended or isinstance(event, RunEnded)
        waits = (
            isinstance(event, Evaluated)
            and self._task.awaits_decision(event.evaluation)
            and not self._interrupts
        )
        try:
            self._connection.send(event)
            while waits or self._connection.poll():
                self._obey(self._connection.recv())
                waits = False
        except (EOFError, OSError):  # the pool is gone
            self._interrupts.request(RunStatus.KILLED)

    def _obey(self, order: PrunerDecision | StopRun) -> None:
        if isinstance(order, StopRun):
            self._interrupts.request(RunStatus.KILLED)
        elif not order.proceed and not self._interrupts:
            self._interrupts.request(RunStatus.FINISHED)
