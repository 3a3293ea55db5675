"""Time limit for calls into an environment, and their end where a run is interrupted."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Final
from weakref import WeakSet

from dqnkit.errors import EnvironmentFailedError, InterruptedRun
from dqnkit.processes.interrupts import killed_at

_SIGNAL: Final = signal.SIGURG
"""Signal that is ignored by default and that hardly any program handles."""
PATIENCE_SECONDS = 5.0
"""Time that a call may still take once the run is interrupted. After a first SIGTERM, containers
and clusters kill a process in ten seconds or more."""
MakeError = Callable[[str, float | None], EnvironmentFailedError]
_watchdogs: WeakSet[Watchdog] = WeakSet()


class Watchdog:
    """A context manager that raises an exception if its body takes too long.

    The exception is `EnvironmentFailedError` after the time limit, and `InterruptedRun` if the run
    has been interrupted and the body does not end within `PATIENCE_SECONDS`.

    A thread checks the time, at no cost to the body, and sends a signal, which interrupts Python
    code and blocking system calls. Nothing interrupts two cases: code of a C extension that never
    returns to Python, and threads other than the main one, where Python handles no signals.
    """

    def __init__(
        self,
        seconds: float | None,
        env_id: str,
        make_error: MakeError | None = None,
        *,
        heeds_interrupts: bool = True,
        wakes: bool = False,
    ) -> None:
        """Start the thread, if this is the main thread.

        Args:
          seconds: Time limit of the body; None sets none.
          env_id: Id of the environment that runs in the body, for messages.
          make_error: Makes the error from these two; `hang_error` by default.
          heeds_interrupts: False if an interruption of the run leaves the body alone.
          wakes: True to wake the body from system calls now and then. A body that blocks signals
            would otherwise not run their handlers before its call returns.
        """
        self.seconds = seconds
        self.env_id = env_id
        self.make_error = make_error or hang_error
        self._heeds_interrupts = heeds_interrupts
        self._wakes = wakes
        self._started_at: float | None = None
        self._closed = threading.Event()
        main = threading.main_thread()
        if threading.current_thread() is not main or main.ident is None:
            return
        _watchdogs.add(self)
        if signal.getsignal(_SIGNAL) is not _interrupt:
            signal.signal(_SIGNAL, _interrupt)
        thread = threading.Thread(
            target=self._watch, args=(main.ident,), name="dqnkit-watchdog", daemon=True
        )
        thread.start()

    def __enter__(self) -> None:
        self._started_at = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started_at = None

    @property
    def is_late(self) -> bool:
        """True if the body is running and has exceeded the limit."""
        started_at, seconds = self._started_at, self.seconds
        if started_at is None or seconds is None:
            return False
        return time.monotonic() - started_at > seconds

    @property
    def is_given_up(self) -> bool:
        """True if the body is running although the run was interrupted some time ago."""
        started_at, interrupted_at = self._started_at, killed_at()
        if started_at is None or interrupted_at is None or not self._heeds_interrupts:
            return False
        return time.monotonic() - max(started_at, interrupted_at) > PATIENCE_SECONDS

    def close(self) -> None:
        """End the thread; nothing interrupts a body from now on."""
        self._closed.set()
        _watchdogs.discard(self)

    def _watch(self, thread: int) -> None:
        while not self._closed.wait(min(1.0, (self.seconds or math.inf) / 4)):
            is_woken = self._wakes and self._started_at is not None
            if is_woken or self.is_late or self.is_given_up:
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(thread, _SIGNAL)


def hang_error(env_id: str, seconds: float | None) -> EnvironmentFailedError:
    """Return the error of a call that took longer than its time limit."""
    return EnvironmentFailedError(
        f"{env_id!r} hangs: a step or reset took longer than env.step_timeout={seconds or 0:g} "
        "seconds; fix the environment, or increase the timeout"
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    for watchdog in tuple(_watchdogs):
        if watchdog.is_late:
            raise watchdog.make_error(watchdog.env_id, watchdog.seconds)
        if watchdog.is_given_up:
            raise InterruptedRun(
                f"interrupted; {watchdog.env_id!r} was in the middle of a call that did not return "
                f"within {PATIENCE_SECONDS:g} seconds"
            )


@contextlib.contextmanager
def interruptible(env_id: str) -> Iterator[None]:
    """Raise `InterruptedRun` if the run is interrupted and the body does not end soon after.

    Args:
      env_id: Id of the environment that runs in the body, for messages.
    """
    watchdog = Watchdog(None, env_id, wakes=True)
    try:
        with watchdog:
            yield
    finally:
        watchdog.close()
