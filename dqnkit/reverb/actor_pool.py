"""The actors of a run that are processes of this machine, replaced where they die."""

from __future__ import annotations

from functools import partial

from dqnkit.errors import DqnkitError, WorkerError
from dqnkit.processes.launcher import Handle, LocalLauncher
from dqnkit.reverb.actor import serve_actor

_IN_VAIN = 3
"""ActorPool that die without a transition from any since they began; then there is no use in another.
"""


_LEAVE_SECONDS = 5.0
"""For closing their environments."""


class ActorPool:
    """As many as are wanted, until they are closed."""

    def __init__(self, address: str, count: int) -> None:
        """Starts them.

        Args:
          address: Of the server that they write to.
          count: How many.
        """
        self._address = address
        self._launcher = LocalLauncher()
        self._count = count
        self._started = 0
        self._dead_in_vain = 0
        self._notes: list[str] = []
        self._handles: dict[int, Handle] = {}
        self._new: set[int] = set()
        """Those that were started since a transition has come."""
        try:
            for _ in range(count):
                self._start()
        except BaseException:
            self.close()
            raise

    def replace_dead(self, *, progressed: bool) -> None:
        """Starts another in the place of each one that has died.

        Args:
          progressed: Whether a transition has come since the last call.

        Raises:
          DqnkitError: An actor says that it cannot act: what it says.
          WorkerError: They die one after another.
        """
        if progressed:
            self._dead_in_vain = 0
            self._new.clear()
        for number, handle in list(self._handles.items()):
            if handle.connection.poll():
                self._hear(number, handle)

    def notes(self) -> list[str]:
        """What became of actors since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Ends them."""
        for handle in self._handles.values():
            handle.connection.close()  # which they notice
        for handle in self._handles.values():
            if not handle.join(_LEAVE_SECONDS):
                handle.kill()
            handle.join()
        self._handles.clear()
        self._launcher.close()

    def _start(self) -> None:
        target = partial(serve_actor, address=self._address, number=self._started)
        self._handles[self._started] = self._launcher.start(target, self._started, self._count)
        self._new.add(self._started)
        self._started += 1

    def _hear(self, number: int, handle: Handle) -> None:
        try:
            said = handle.connection.recv()
        except (EOFError, OSError):
            said = None
        if isinstance(said, DqnkitError):
            raise said
        self._replace(number, handle)

    def _replace(self, number: int, handle: Handle) -> None:
        words = handle.last_words()
        handle.connection.close()
        del self._handles[number]
        self._notes.append(f"actor {number} is replaced: {words}")
        self._dead_in_vain += number in self._new
        if self._dead_in_vain >= _IN_VAIN:
            raise WorkerError(
                f"{_IN_VAIN} actors died, and no transition came from any; of the last, {words}"
            )
        self._start()
