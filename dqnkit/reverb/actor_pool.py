"""The actors that a learner runs on its own machine; actors that die are replaced."""

from __future__ import annotations

from functools import partial

from dqnkit.errors import DqnkitError, WorkerError
from dqnkit.processes.launcher import Handle, LocalLauncher
from dqnkit.reverb.actor import serve_actor

_MAX_DEATHS = 3
"""Number of actors that may die without a transition from any actor since they were started."""
_EXIT_SECONDS = 5.0
"""Time that an actor gets to close its environments."""


class ActorPool:
    """A fixed number of actor processes."""

    def __init__(self, address: str, count: int) -> None:
        """Start the actors.

        Args:
          address: Address of the replay server, `HOST:PORT`.
          count: Number of actors.
        """
        self._address = address
        self._launcher = LocalLauncher()
        self._count = count
        self._num_started = 0
        self._num_deaths = 0
        self._warnings: list[str] = []
        self._handles: dict[int, Handle] = {}
        self._new: set[int] = set()
        """Numbers of the actors that were started after the last transition arrived."""
        try:
            for _ in range(count):
                self._start()
        except BaseException:
            self.close()
            raise

    def replace_dead(self, *, progressed: bool) -> None:
        """Start a new actor in the place of each actor that has died.

        Args:
          progressed: True if a transition has arrived since the last call.

        Raises:
          DqnkitError: If an actor sent this error, because it cannot act.
          WorkerError: If several actors died and no transition arrived.
        """
        if progressed:
            self._num_deaths = 0
            self._new.clear()
        for number, handle in list(self._handles.items()):
            if handle.connection.poll():
                self._receive(number, handle)

    def warnings(self) -> list[str]:
        """Return messages on actors that were replaced since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def close(self) -> None:
        """End all actors."""
        for handle in self._handles.values():
            handle.connection.close()  # an actor ends when its connection closes
        for handle in self._handles.values():
            if not handle.join(_EXIT_SECONDS):
                handle.kill()
            handle.join()
        self._handles.clear()
        self._launcher.close()

    def _start(self) -> None:
        target = partial(serve_actor, address=self._address, number=self._num_started)
        handle = self._launcher.start(target, self._num_started, self._count)
        self._handles[self._num_started] = handle
        self._new.add(self._num_started)
        self._num_started += 1

    def _receive(self, number: int, handle: Handle) -> None:
        """Raise the error that an actor sent, or replace the actor if its connection has closed."""
        try:
            message = handle.connection.recv()
        except (EOFError, OSError):
            message = None
        if isinstance(message, DqnkitError):
            raise message
        self._replace(number, handle)

    def _replace(self, number: int, handle: Handle) -> None:
        cause = handle.exit_cause()
        handle.connection.close()
        del self._handles[number]
        self._warnings.append(f"actor {number} is replaced: {cause}")
        self._num_deaths += number in self._new
        if self._num_deaths >= _MAX_DEATHS:
            raise WorkerError(
                f"{_MAX_DEATHS} actors died before any transition arrived; the last one: {cause}"
            )
        self._start()
