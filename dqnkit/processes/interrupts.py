"""Whether to end before the last iteration: a question that training asks between chunks."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dqnkit.events import RunStatus

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Whether a signal, or whoever watches the run, has asked it to end."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal, if it was one."""
        self.status: RunStatus | None = None
        """What the run is to end as; None while it may go on."""
        self._held = False

    def __bool__(self) -> bool:
        return self.status is not None

    def end(self, status: RunStatus) -> None:
        """Asks the run to end at the next chunk: KILLED, or FINISHED where enough was seen."""
        self.status = status

    @contextlib.contextmanager
    def held_off(self) -> Iterator[None]:
        """Here no signal raises: for what must be done whatever happens, and is short."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Handles a signal: the first is noted, a second one raises KeyboardInterrupt."""
        if self.signal is not None and not self._held:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        self.status = RunStatus.KILLED


@contextlib.contextmanager
def catch_signals(interrupts: Interrupts | None = None) -> Iterator[Interrupts]:
    """Notes the first signal; a second one raises KeyboardInterrupt where the program stands.

    Outside the main thread, where Python lets nobody handle signals, none is ever noted.
    """
    interrupts = Interrupts() if interrupts is None else interrupts
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    # Under nohup, the end of a session is none of ours.
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    previous = {
        number: signal.signal(number, interrupts.note)
        for number in SIGNALS
        if number not in ignored
    }
    try:
        yield interrupts
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
