"""A Reverb server in this process, which this machine alone can reach unless told otherwise."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.text import one_line
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb.library import DefaultCheckpointer, reverb

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")


class ReplayServer:
    """Serves tables until it is closed."""

    def __init__(
        self,
        tables: Sequence[Any],
        *,
        host: str = LOOPBACK[0],
        port: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Starts it.

        Args:
          tables: Of `reverb.Table`.
          host: One of `LOOPBACK` or `EVERYWHERE`: Reverb listens at all addresses of a machine,
            and can be kept to those that no other machine reaches.
          port: To listen at; None takes a free one.
          folder: Where it writes checkpoints; what the newest one there holds, it begins with.

        Raises:
          ConfigError: The host is another, or the port is taken.
          ReplayError: It does not start.
        """
        if host not in LOOPBACK + EVERYWHERE:
            raise ConfigError(
                f"--host {host}: Reverb cannot listen at one address alone: give "
                f"{LOOPBACK[0]} for this machine, or {EVERYWHERE[0]} for every network it is in"
            )
        checkpointer = None if folder is None else DefaultCheckpointer(str(folder))
        self._reserved = _reserve(port)
        self.port: int = self._reserved.getsockname()[1]
        try:
            with quiet_stderr():
                self._server = reverb.Server(tables, self.port, checkpointer)
        except (RuntimeError, ValueError) as error:
            self._reserved.close()
            raise ReplayError(f"Reverb's server does not start: {one_line(error)}") from error
        if host in LOOPBACK:
            self._keep_to_this_machine()

    @property
    def address(self) -> str:
        """Where this machine reaches it."""
        return f"{LOOPBACK[0]}:{self.port}"

    def close(self) -> None:
        """Ends it, and what it holds."""
        with quiet_stderr():
            self._server.stop()
        self._reserved.close()

    def _keep_to_this_machine(self) -> None:
        """Takes what comes by the loopback device alone.

        Between the start and this, some milliseconds, other machines could connect; there is
        nothing in the tables then.
        """
        try:
            listening = list(_listeners(self.port))
            for listener in listening:
                with listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        except OSError as error:
            self._refuse(f"the system does not tie its socket to this machine ({error.strerror})")
        if not listening:
            self._refuse("it does not show by what socket it listens")

    def _refuse(self, why: str) -> NoReturn:
        self.close()
        raise ReplayError(
            f"Reverb's server cannot be kept to this machine: {why}; --host {EVERYWHERE[0]} of "
            "`dqnkit replay-server` serves every network that it is in"
        )


def _reserve(port: int | None) -> socket.socket:
    """Takes a port that nobody else gets while the socket is open, and Reverb does.

    Reverb shares its port with whoever asks for the same one: two servers would divide their
    clients between them. The system gives no port away by itself that a socket is bound to.
    """
    if port is not None:
        _refuse_if_taken(port)
    reserved = _socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("", port or 0))
    return reserved


def _socket() -> socket.socket:
    """For both versions of IP, where the system has both."""
    with contextlib.suppress(OSError):
        return socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def _refuse_if_taken(port: int) -> None:
    with _socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(
                f"--port {port}: cannot be listened at: {error.strerror}; give another, or none"
            ) from error


def _listeners(port: int) -> Iterator[socket.socket]:
    """Those sockets of this process that listen at a port, to be closed by whoever takes them."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(entry.name)))
            is_ip = found.family in (socket.AF_INET, socket.AF_INET6)
            listens = is_ip and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens and found.getsockname()[1] == port:
                yield found
            else:
                found.close()
