"""Time limit for calls into an environment."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final
from weakref import WeakSet

from dqnkit.errors import EnvironmentFailedError

_SIGNAL: Final = signal.SIGURG
"""Signal that is ignored by default and that hardly any program handles."""
MakeError = Callable[[str, float | None], EnvironmentFailedError]
_watchdogs: WeakSet[Watchdog] = WeakSet()


class Watchdog:
    """A context manager that raises `EnvironmentFailedError` if its body takes too long.

    A thread checks the time, at no cost to the body, and sends a signal, which interrupts Python
    code and blocking system calls. Two cases have no time limit: code of a C extension that never
    returns to Python, and threads other than the main one, where Python handles no signals.
    """

    def __init__(
        self, seconds: float | None, env_id: str, make_error: MakeError | None = None
    ) -> None:
        """Start the thread, if there is a limit and this is the main thread.

        Args:
          seconds: Time limit of the body; None sets none.
          env_id: Id of the environment that runs in the body, for messages.
          make_error: Makes the error from these two; `hang_error` by default.
        """
        self.seconds = seconds
        self.env_id = env_id
        self.make_error = make_error or hang_error
        self._started_at: float | None = None
        self._closed = threading.Event()
        main = threading.main_thread()
        if seconds is None or threading.current_thread() is not main or main.ident is None:
            return
        _watchdogs.add(self)
        if signal.getsignal(_SIGNAL) is not _interrupt:
            signal.signal(_SIGNAL, _interrupt)
        thread = threading.Thread(
            target=self._watch, args=(main.ident, seconds), name="dqnkit-watchdog", daemon=True
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

    def close(self) -> None:
        """End the thread; there is no time limit from now on."""
        self._closed.set()
        _watchdogs.discard(self)

    def _watch(self, thread: int, seconds: float) -> None:
        while not self._closed.wait(min(1.0, seconds / 4)):
            if self.is_late:
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
