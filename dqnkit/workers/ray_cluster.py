"""Workers as tasks of a Ray cluster, an existing one or one of this machine alone.

Ray decides where the tasks run, gives them CPUs and GPUs, and detects lost nodes. Orders and events
do not pass through Ray: each task connects to this process, as a worker of this machine does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import (
    Client,
    Connection,
    Pipe,
    answer_challenge,
    deliver_challenge,
    wait,
)
from pathlib import Path
from typing import Any

from typing_extensions import override

from dqnkit._system.text import one_line
from dqnkit.errors import ArgumentError, ConfigError, WorkerError
from dqnkit.processes.launcher import Handle, Launcher, Target, memory_limit
from dqnkit.workers.placement import Placement
from dqnkit.workers.pool import available_cores

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
"""Socket options (seconds, seconds, probes) that end a worker whose parent's machine is lost."""
_POLL_SECONDS = 1.0
"""Time between two checks whether a task has ended."""
_CONNECT_SECONDS = 5.0


class RayLauncher(Launcher):
    """Starts each worker as a Ray task."""

    def __init__(self, placement: Placement) -> None:
        """Connect to the cluster of a placement.

        Raises:
          ConfigError: If Ray is not installed, or no node has the resources of a worker.
          WorkerError: If the cluster does not answer.
        """
        self._placement = placement
        self._ray = _import_ray()
        self._owns_connection = not self._ray.is_initialized()
        if self._owns_connection:
            _connect(self._ray, placement.ray_address)
        try:
            self._check_resources()
        except ConfigError:
            self._disconnect()
            raise
        self._server = _ConnectionServer(self._ray.util.get_node_ip_address())

    @property
    def capacity(self) -> int:
        """Number of workers that the cluster has room for."""
        resources = self._ray.cluster_resources()
        room = [resources.get("CPU", 0.0) / self._placement.cpus]
        if self._placement.gpus:
            room.append(resources.get("GPU", 0.0) / self._placement.gpus)
        return max(1, int(min(room)))

    @property
    def other_nodes(self) -> list[str]:
        """Addresses of the nodes other than this machine."""
        here = self._ray.util.get_node_ip_address()
        return sorted({node["NodeManagerAddress"] for node in self._alive_nodes()} - {here})

    @override
    def start(self, target: Target, number: int, workers: int) -> Handle:
        del workers  # may run on other machines: `_run_worker` computes the share of memory
        task = self._ray.remote(
            num_cpus=self._placement.cpus,
            num_gpus=self._placement.gpus,
            max_calls=1,  # memory that TensorFlow holds is released with the process
            max_retries=0,  # a lost run is repeated as a new run
        )(_run_worker)
        server, cpus = self._server, self._placement.cpus
        arguments = _TaskArguments(server.address, server.key, number, str(Path.cwd()), cpus)
        reference = task.options(name=f"dqnkit-worker-{number}").remote(target, arguments)
        return _RayTask(self._ray, reference, server.connections(number))

    @override
    def close(self) -> None:
        self._server.close()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._owns_connection:
            self._ray.shutdown()

    def _alive_nodes(self) -> list[Any]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _check_resources(self) -> None:
        """Check that a node has the CPUs and GPUs of a worker.

        Raises:
          ArgumentError: If none has.
        """
        cpus, gpus = self._placement.cpus, self._placement.gpus
        nodes = [node["Resources"] for node in self._alive_nodes()]
        if any(each.get("CPU", 0) >= cpus and each.get("GPU", 0) >= gpus for each in nodes):
            return
        most_cpus = max((each.get("CPU", 0) for each in nodes), default=0)
        most_gpus = max((each.get("GPU", 0) for each in nodes), default=0)
        argument, value = ("gpus", gpus) if gpus > most_gpus else ("cpus", cpus)
        raise ArgumentError(
            argument,
            f"{value:g}",
            f"no node of the cluster has {cpus:g} CPUs and {gpus:g} GPUs; the largest have "
            f"{most_cpus:g} CPUs and {most_gpus:g} GPUs",
        )


class _RayTask(Handle):
    """A worker that runs as a Ray task."""

    def __init__(self, ray: Any, reference: Any, connections: queue.Queue[Connection]) -> None:
        self._ray = ray
        self._reference = reference
        self._connections = connections
        # The pool needs a connection at once, and the task may wait for resources.
        self.connection, ours = Pipe()
        threading.Thread(target=self._relay, args=(ours,), daemon=True).start()

    @override
    def kill(self) -> None:
        with contextlib.suppress(Exception):  # the task or the cluster has ended
            self._ray.cancel(self._reference, force=True)

    @override
    def interrupt(self) -> None:
        """Do nothing: in a task of another node, `env.step_timeout` ends a call."""

    @override
    def join(self, timeout: float | None = None) -> bool:
        with contextlib.suppress(Exception):  # the cluster is lost, and the task with it
            done, _ = self._ray.wait([self._reference], timeout=timeout)
            return bool(done)
        return True

    @override
    def exit_cause(self) -> str:
        try:
            self._ray.get(self._reference, timeout=_POLL_SECONDS)
        except Exception as error:  # Ray has many classes for the end of a task
            return f"its Ray task ended: {one_line(error)}"
        return "its Ray task ended"

    def _relay(self, pool: Connection) -> None:
        """Relay between the pool and the task until one of them ends."""
        with pool, contextlib.suppress(EOFError, OSError):
            while (task := self._next_connection()) is None:
                # The pool sends nothing before the worker is ready, but it may close.
                if self._has_ended or pool.poll():
                    return
            with task:
                other = {pool: task, task: pool}
                while True:
                    ready = wait(list(other), _POLL_SECONDS)
                    for connection in ready:
                        assert isinstance(connection, Connection)
                        other[connection].send_bytes(connection.recv_bytes())
                    # A node that is cut off closes no connection, but Ray detects its loss.
                    if not ready and self._has_ended:
                        return

    def _next_connection(self) -> Connection | None:
        with contextlib.suppress(queue.Empty):
            return self._connections.get(timeout=_POLL_SECONDS)
        return None

    @property
    def _has_ended(self) -> bool:
        return self.join(0)


class _ConnectionServer:
    """Accepts the connections of tasks, which authenticate themselves by a key."""

    def __init__(self, host: str) -> None:
        self.key = secrets.token_bytes(32)
        self._socket = socket.create_server((host, 0))
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._connections: dict[int, queue.Queue[Connection]] = defaultdict(queue.Queue)
        threading.Thread(target=self._serve, daemon=True).start()

    def connections(self, number: int) -> queue.Queue[Connection]:
        """Return the queue that receives the connection of a worker."""
        return self._connections[number]

    def close(self) -> None:
        """Stop accepting connections; those that are open stay open."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                accepted, _ = self._socket.accept()
                # A client that sends nothing must not block the others.
                threading.Thread(target=self._admit, args=(accepted,), daemon=True).start()

    def _admit(self, accepted: socket.socket) -> None:
        connection = Connection(accepted.detach())
        try:
            _enable_keepalive(connection)
            deliver_challenge(connection, self.key)
            answer_challenge(connection, self.key)
            number = connection.recv()
        except Exception:  # an unknown client may send anything
            connection.close()
        else:
            self._connections[number].put(connection)


@dataclass(frozen=True)
class _TaskArguments:
    """Arguments of a task, which Ray sends to its node."""

    address: tuple[str, int]
    """Address of the `_ConnectionServer`."""
    key: bytes
    number: int
    folder: str
    """Working directory of the parent, which may exist on the node too."""
    cpus: float
    """Number of the node's CPUs that belong to the worker."""


def _run_worker(target: Target, arguments: _TaskArguments) -> None:
    """Run a worker: the function of the Ray task."""
    if Path(arguments.folder).is_dir():
        os.chdir(arguments.folder)
    sys.path.insert(0, "")  # the user's own environments, as in the command line
    with Client(arguments.address, authkey=arguments.key) as connection:
        _enable_keepalive(connection)
        connection.send(arguments.number)
        share = min(1.0, arguments.cpus / available_cores())
        target(connection, None, memory_limit(share))


def _enable_keepalive(connection: Any) -> None:
    """Let the operating system close the connection if the other machine is lost."""
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            duplicate.setsockopt(socket.IPPROTO_TCP, option, value)


def _import_ray() -> Any:
    """Import Ray, without usage statistics and a warning about GPUs.

    Raises:
      ArgumentError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ArgumentError(
            "launcher", "ray", "Ray is not installed: install 'dqnkit[ray]', or ray beside it"
        ) from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster; start one if none is given and none runs on this machine.

    Raises:
      WorkerError: If the cluster does not answer.
    """
    chosen = address or os.environ.get("RAY_ADDRESS") or _running_here()
    if chosen is not None and chosen != "auto":
        _check_reachable(chosen)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with warnings.catch_warnings(), _sigterm_handler_kept():
        warnings.simplefilter("ignore")
        try:
            if chosen is None:
                ray.init(address="local", include_dashboard=False, **quiet)
            else:
                ray.init(address=chosen, **quiet)
        except Exception as error:  # for example another program's port, or a missing token
            raise _no_answer(chosen or "of this machine", one_line(error)) from error


def _running_here() -> str | None:
    """Return the address of the cluster that `ray start` has started on this machine, if any."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        address = file.read_text(encoding="utf-8").strip()
        _check_reachable(address)  # the file stays when a cluster dies
    except (OSError, WorkerError):
        return None
    return address


def _check_reachable(address: str) -> None:
    """Check that something listens at an address; Ray takes more than a minute to find out.

    Raises:
      WorkerError: If nothing does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, reason: str) -> WorkerError:
    return WorkerError(
        f"the Ray cluster {address} does not answer: {reason}. Start one by `ray start --head`, "
        "give its HOST:PORT, or leave `ray_address` and RAY_ADDRESS out for one on this machine "
        "alone"
    )


@contextlib.contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces by one that ends this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
