"""Requests to end a run before its last iteration, which training checks between chunks."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from dqnkit.events import RunStatus

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that request the end of a run."""
_caught: list[Interrupts] = []
"""The requests that signals set now, the innermost last."""


class Interrupts:
    """A request to end the run early, set by a signal or by the caller. True once it is set."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that set the request; None if no signal did."""
        self.status: RunStatus | None = None
        """Final status of the run; None while it may continue."""
        self.killed_at: float | None = None
        """Time of the first request for KILLED, as `time.monotonic` gives it."""
        self._deferred = False

    def __bool__(self) -> bool:
        return self.status is not None

    def request(self, status: RunStatus) -> None:
        """Request the run to end after the current chunk.

        Args:
          status: Final status of the run: KILLED, or FINISHED if a pruner stopped it.
        """
        self.status = status
        if status is RunStatus.KILLED and self.killed_at is None:
            self.killed_at = time.monotonic()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Prevent signals from raising KeyboardInterrupt in the body, which must be short."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def handle(self, number: int, _: FrameType | None = None) -> None:
        """Handle a signal: the first sets the request, the second raises KeyboardInterrupt."""
        if self.signal is not None and not self._deferred:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        self.request(RunStatus.KILLED)


def killed_at() -> float | None:
    """Return when the innermost run that catches signals was asked to end as KILLED.

    The time is that of `time.monotonic`; None if there is no such request.
    """
    return _caught[-1].killed_at if _caught else None


@contextlib.contextmanager
def catch_signals(interrupts: Interrupts | None = None) -> Iterator[Interrupts]:
    """Handle `SIGNALS` by `Interrupts.handle` in the body, and restore the handlers afterwards.

    Python handles signals in the main thread only: in other threads, nothing is changed.

    Args:
      interrupts: The request that signals set; None makes a new one.
    """
    interrupts = Interrupts() if interrupts is None else interrupts
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    # Under nohup, SIGHUP is ignored and must stay so: the run outlives the terminal's session.
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    previous = {
        number: signal.signal(number, interrupts.handle)
        for number in SIGNALS
        if number not in ignored
    }
    _caught.append(interrupts)
    try:
        yield interrupts
    finally:
        _caught.remove(interrupts)
        for number, handler in previous.items():
            signal.signal(number, handler)
