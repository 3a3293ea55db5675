"""A Reverb server in this process, which this machine alone can reach unless told otherwise."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dqnkit.errors import ConfigError, ReplayError
from dqnkit.noise import quiet
from dqnkit.replay.reverb.library import DefaultCheckpointer, reverb

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
            with quiet():
                self._server = reverb.Server(tables, self.port, checkpointer)
        except (RuntimeError, ValueError) as error:
            self._reserved.close()
            raise ReplayError(f"Reverb's server does not start: {_line(error)}") from error
        if host in LOOPBACK:
            self._keep_to_this_machine()

    @property
    def address(self) -> str:
        """Where this machine reaches it."""
        return f"{LOOPBACK[0]}:{self.port}"

    def close(self) -> None:
        """Ends it, and what it holds."""
        with quiet():
            self._server.stop()
        self._reserved.close()

    def _keep_to_this_machine(self) -> None:
        """Takes what comes by the loopback device alone."""
        listening = 0
        for listener in _listeners(self.port):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
            listening += 1
        if not listening:
            self.close()
            raise ReplayError(
                "Reverb's server does not show by what socket it listens, so it cannot be kept to "
                f"this machine; --host {EVERYWHERE[0]} serves every network that it is in"
            )


def _reserve(port: int | None) -> socket.socket:
    """Takes a port that nobody else gets while the socket is open, and Reverb does.

    Reverb shares its port with whoever asks for the same one: two servers would divide their
    clients between them. The system gives no port away by itself that a socket is bound to.
    """
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    if port is not None:
        _refuse_if_taken(family, port)
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("", port or 0))
    return reserved


def _refuse_if_taken(family: socket.AddressFamily, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(
                f"--port {port}: cannot be listened at: {error.strerror}; give another, or none"
            ) from error


def _listeners(port: int) -> Iterator[socket.socket]:
    """Those sockets of this process that listen at a port."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as found:
                is_ours = found.family in (socket.AF_INET, socket.AF_INET6)
                listens = is_ours and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and found.getsockname()[1] == port:
                    yield found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
