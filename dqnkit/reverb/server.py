"""Reverb servers: the server in this process, and a standalone server for an experiment."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.text import one_line
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ArgumentError, ConfigError, ReplayError
from dqnkit.reverb.connection import ServerConnection, table_mismatch
from dqnkit.reverb.library import DefaultCheckpointer, reverb
from dqnkit.reverb.tables import (
    RateLimits,
    TransitionSpec,
    make_broadcast_tables,
    make_replay_table,
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that restrict a server to clients on this machine."""
EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that make a server reachable on every network of this machine."""


class ReplayServer:
    """A Reverb server in this process."""

    def __init__(
        self,
        tables: Sequence[Any],
        *,
        host: str = LOOPBACK[0],
        port: int | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        """Start the server.

        Args:
          tables: Tables of the server (`reverb.Table`).
          host: One of `LOOPBACK` or `EVERYWHERE`. Reverb always listens at all addresses of the
            machine, but its sockets can be bound to the loopback device.
          port: Port to listen at; None for a free one.
          checkpoints: Folder of the server's checkpoints. The newest one is loaded.

        Raises:
          ArgumentError: If `host` is another host, or `port` is in use.
          ReplayError: If the server does not start.
        """
        if host not in LOOPBACK + EVERYWHERE:
            raise ArgumentError(
                "host",
                host,
                "Reverb cannot listen at a single address: give "
                f"{LOOPBACK[0]} for this machine, or {EVERYWHERE[0]} for every network it is in",
            )
        checkpointer = None if checkpoints is None else DefaultCheckpointer(str(checkpoints))
        self._reserved = _reserve(port)
        self.port: int = self._reserved.getsockname()[1]
        try:
            with quiet_stderr():
                self._server = reverb.Server(tables, self.port, checkpointer)
        except (RuntimeError, ValueError) as error:
            self._reserved.close()
            raise ReplayError(f"Reverb's server does not start: {one_line(error)}") from error
        if host in LOOPBACK:
            self._bind_to_loopback()

    @property
    def address(self) -> str:
        """Address of the server for clients on this machine, `HOST:PORT`."""
        return f"{LOOPBACK[0]}:{self.port}"

    def close(self) -> None:
        """Stop the server and drop its tables."""
        with quiet_stderr():
            self._server.stop()
        self._reserved.close()

    def _bind_to_loopback(self) -> None:
        """Bind the listening sockets to the loopback device.

        For some milliseconds after the start, other machines can connect. The tables are still
        empty then, unless a checkpoint was loaded.
        """
        try:
            listeners = list(_listeners(self.port))
            for listener in listeners:
                with listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        except OSError as error:
            self._abort(f"its sockets cannot be bound to the loopback device ({error.strerror})")
        if not listeners:
            self._abort("its listening socket cannot be found")

    def _abort(self, reason: str) -> NoReturn:
        self.close()
        raise ReplayError(
            f"Reverb's server cannot be restricted to this machine: {reason}; with "
            f"host={EVERYWHERE[0]}, `dqnkit replay-server` serves every network it is in"
        )


class StandaloneServer:
    """The server of an experiment whose learner and actors run in other processes."""

    def __init__(
        self, server: ReplayServer, connection: ServerConnection, checkpoints: Path | None
    ) -> None:
        self.port = server.port
        self._connection = connection
        self._checkpoints = checkpoints

    @property
    def num_transitions(self) -> int:
        """Number of transitions in the replay table."""
        return int(self._connection.info().current_size)

    def checkpoint(self) -> str | None:
        """Write a checkpoint and return its path; return None without folder or transitions."""
        if self._checkpoints is None or not self.num_transitions:
            return None
        with quiet_stderr():  # Reverb logs the checkpoint
            return str(self._connection.call(self._connection.client.checkpoint, retry=False))


@contextlib.contextmanager
def serve_experiment(
    config: Config, spec: EnvSpec, *, host: str, port: int | None, checkpoints: Path | None
) -> Iterator[StandaloneServer]:
    """Serve the tables of an experiment while the body runs.

    Args:
      config: The resolved configuration.
      spec: Specification of its environment.
      host: One of `LOOPBACK` or `EVERYWHERE`.
      port: Port to listen at; None for a free one.
      checkpoints: Folder of the server's checkpoints; created if missing. The newest one is loaded.

    Raises:
      ArgumentError: If `host` or `port` cannot be used, or `checkpoints` cannot be written or
        belongs to another experiment.
      ConfigError: If the experiment does not use Reverb.
      ReplayError: If the server does not start, or the checkpoint is damaged.
    """
    if config.replay.kind != "reverb":
        raise ConfigError(
            f"the experiment {config.name} has replay.kind={config.replay.kind}, which needs no "
            "server: give an experiment with replay.kind=reverb, or set it"
        )
    if checkpoints is not None:
        try:
            checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(
                "checkpoints", checkpoints, f"cannot be created: {error.strerror or error}"
            ) from error
        checkpoints = checkpoints.resolve()
    transition_spec = TransitionSpec(spec, config.agent.n_step, config.agent.gamma)
    limits = RateLimits.from_config(config)
    tables = [make_replay_table(config.replay, transition_spec, limits), *make_broadcast_tables()]
    with contextlib.ExitStack() as resources:
        # A learner requests checkpoints in any case. Without a folder, Reverb would create one
        # and leave it behind.
        folder = checkpoints or Path(
            resources.enter_context(TemporaryDirectory(prefix="dqnkit-reverb-"))
        )
        server = ReplayServer(tables, host=host, port=port, checkpoints=folder)
        resources.callback(server.close)
        connection = ServerConnection(server.address)
        resources.callback(connection.close)
        if checkpoints is not None and any(checkpoints.glob("*/DONE")):
            info = connection.info()
            mismatch = table_mismatch(info, config.replay, transition_spec, limits)
            _check_checkpoint(checkpoints, info, mismatch)
        yield StandaloneServer(server, connection, checkpoints)


def _check_checkpoint(checkpoints: Path, info: Any, mismatch: str) -> None:
    """Check the table that Reverb has loaded.

    Reverb takes over the settings of a table in a checkpoint, and begins with an empty table if the
    checkpoint is damaged.

    Args:
      checkpoints: Folder of the checkpoints.
      info: Reverb's `TableInfo` of the replay table.
      mismatch: Result of `table_mismatch`.
    """
    if not info.current_size:
        raise ReplayError(
            f"the checkpoint in {checkpoints} is damaged: Reverb reads no transition from it; "
            "remove it to begin with an empty table"
        )
    if mismatch:
        raise ArgumentError(
            "checkpoints",
            checkpoints,
            f"the checkpoint there belongs to another experiment: it has {mismatch}. Give this "
            "experiment another folder",
        )


def _reserve(port: int | None) -> socket.socket:
    """Reserve a port for Reverb by a bound socket that does not listen.

    Reverb opens its port with SO_REUSEPORT: two servers at the same port would share the clients.
    While the returned socket is open, the system assigns the port to no other socket.
    """
    if port is not None:
        _check_port_is_free(port)
    reserved = _make_socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("", port or 0))
    return reserved


def _make_socket() -> socket.socket:
    """Make a socket for IPv6 and IPv4, or for IPv4 where the system has no IPv6."""
    with contextlib.suppress(OSError):
        return socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def _check_port_is_free(port: int) -> None:
    with _make_socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ArgumentError(
                "port",
                port,
                f"the server cannot listen there: {error.strerror}; give another port, or leave it "
                "out for a free one",
            ) from error


def _listeners(port: int) -> Iterator[socket.socket]:
    """Yield duplicates of this process's sockets that listen at a port; the caller closes them."""
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
