"""An end to calls into an environment that do not come back."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Final
from weakref import WeakSet

from dqnkit.errors import EnvironmentFailedError

_SIGNAL: Final = signal.SIGURG
"""Does nothing where nobody waits for it, and hardly anybody does."""
_watches: WeakSet[Watchdog] = WeakSet()


class Watchdog:
    """A context whose body raises when it takes too long.

    A thread looks on, which costs the body nothing, and sends a signal, which interrupts Python's
    code and waiting in the system. Code in a C extension that never comes back to Python is
    beyond its reach, and so is all in threads other than the main one, where Python hears no
    signals: there the time is not limited.
    """

    def __init__(self, seconds: float | None, env_id: str) -> None:
        """Looks at nothing yet.

        Args:
          seconds: Limit; None sets none.
          env_id: Of what runs in the context, for messages.
        """
        self.seconds = seconds
        self.env_id = env_id
        self._began: float | None = None
        self._closed = threading.Event()
        main = threading.main_thread()
        if seconds is None or threading.current_thread() is not main or main.ident is None:
            return
        _watches.add(self)
        if signal.getsignal(_SIGNAL) is not _interrupt:
            signal.signal(_SIGNAL, _interrupt)
        looking = threading.Thread(
            target=self._look, args=(main.ident, seconds), name="dqnkit-watch", daemon=True
        )
        looking.start()

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._began = None

    @property
    def is_late(self) -> bool:
        """Whether the body should have ended by now."""
        began, seconds = self._began, self.seconds
        return began is not None and seconds is not None and time.monotonic() - began > seconds

    def close(self) -> None:
        """Looks no more."""
        self._closed.set()
        _watches.discard(self)

    def _look(self, thread: int, seconds: float) -> None:
        while not self._closed.wait(min(1.0, seconds / 4)):
            if self.is_late:
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(thread, _SIGNAL)


def hang_error(env_id: str, seconds: float | None) -> EnvironmentFailedError:
    """What is raised when it does."""
    return EnvironmentFailedError(
        f"{env_id!r} hangs: a step or reset took longer than env.step_timeout={seconds or 0:g} "
        "seconds; mend the environment, or allow it more"
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    for watch in tuple(_watches):
        if watch.is_late:
            raise hang_error(watch.env_id, watch.seconds)
