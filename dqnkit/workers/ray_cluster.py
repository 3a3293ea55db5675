"""Workers as Ray tasks, on a cluster that exists or on one of this machine alone.

Ray places them, gives them CPUs and GPUs, and tells when a node is lost. What is said to and by a
worker is the same as ever, over a connection that the task opens to this process.
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

from dqnkit._system.text import one_line
from dqnkit.errors import ArgumentError, ConfigError, WorkerError
from dqnkit.processes.launcher import Handle, Launcher, Target, memory_limit
from dqnkit.workers.placement import Placement
from dqnkit.workers.pool import available_cores

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
"""Seconds, seconds, tries: a worker whose parent's machine is lost ends by itself."""
_LOOK_SECONDS = 1.0
_KNOCK_SECONDS = 5.0


class RayLauncher(Launcher):
    """Starts a task for each worker (`Launcher`)."""

    def __init__(self, options: Placement) -> None:
        """Connects to the cluster.

        Raises:
          ConfigError: Ray is not installed, or no node has what a worker asks for.
          WorkerError: The cluster does not answer.
        """
        self._options = options
        self._ray = _ray()
        if self._ray.is_initialized():
            self._is_ours = False
        else:
            self._is_ours = True
            _connect(self._ray, options.ray_address)
        try:
            self._refuse_what_no_node_has()
        except ConfigError:
            self.close()
            raise
        self._door = _Door(self._ray.util.get_node_ip_address())

    @property
    def capacity(self) -> int:
        """Workers that the cluster has room for."""
        there = self._ray.cluster_resources()
        room = [there.get("CPU", 0.0) / self._options.cpus]
        if self._options.gpus:
            room.append(there.get("GPU", 0.0) / self._options.gpus)
        return max(1, int(min(room)))

    @property
    def other_nodes(self) -> list[str]:
        """Addresses of nodes that are not this machine."""
        here = self._ray.util.get_node_ip_address()
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        return sorted({node["NodeManagerAddress"] for node in alive} - {here})

    def start(self, target: Target, number: int, workers: int) -> Handle:
        """See `Launcher`."""
        del workers  # of other machines
        task = self._ray.remote(
            num_cpus=self._options.cpus,
            num_gpus=self._options.gpus,
            max_calls=1,  # what TensorFlow holds goes with the process
            max_retries=0,  # a trial that is lost is begun anew, in a run of its own
        )(_work)
        door = self._door
        orders = _Orders(door.address, door.key, number, str(Path.cwd()), self._options.cpus)
        return _Task(
            self._ray,
            task.options(name=f"dqnkit-worker-{number}").remote(target, orders),
            door.expected(number),
        )

    def close(self) -> None:
        """See `Launcher`."""
        with contextlib.suppress(AttributeError):  # it may not have come that far
            self._door.close()
        if self._is_ours:
            self._ray.shutdown()

    def _refuse_what_no_node_has(self) -> None:
        options = self._options
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(
            each.get("CPU", 0) >= options.cpus and each.get("GPU", 0) >= options.gpus
            for each in nodes
        ):
            largest_cpus = max((each.get("CPU", 0) for each in nodes), default=0)
            largest_gpus = max((each.get("GPU", 0) for each in nodes), default=0)
            argument = "gpus" if options.gpus > largest_gpus else "cpus"
            raise ArgumentError(
                argument,
                f"{getattr(options, argument):g}",
                f"no node of the cluster has {options.cpus:g} CPUs and {options.gpus:g} GPUs; the "
                f"largest have {largest_cpus:g} CPUs and {largest_gpus:g} GPUs",
            )


class _Task(Handle):
    """A Ray task that is a worker (`Handle`)."""

    def __init__(self, ray: Any, reference: Any, arrivals: queue.Queue[Connection]) -> None:
        self._ray = ray
        self._reference = reference
        self._arrivals = arrivals
        self.connection, theirs = Pipe()
        threading.Thread(target=self._pass_on, args=(theirs,), daemon=True).start()

    def kill(self) -> None:
        """See `Handle`."""
        with contextlib.suppress(Exception):  # it has ended, or the cluster has
            self._ray.cancel(self._reference, force=True)

    def join(self, timeout: float | None = None) -> bool:
        """See `Handle`."""
        with contextlib.suppress(Exception):  # the cluster is gone, and it with it
            done, _ = self._ray.wait([self._reference], timeout=timeout)
            return bool(done)
        return True

    def last_words(self) -> str:
        """See `Handle`."""
        try:
            self._ray.get(self._reference, timeout=_LOOK_SECONDS)
        except Exception as error:  # whatever Ray makes of its end
            text = " ".join(str(error).split()) or type(error).__name__
            return f"its Ray task ended: {text[:300]}"
        return "its Ray task ended"

    def _pass_on(self, ours: Connection) -> None:
        """What the pool and the task say to each other, until one of them ends."""
        with ours, contextlib.suppress(EOFError, OSError):
            while (theirs := self._arrived()) is None:
                if self._has_ended or ours.poll():  # the pool says nothing before, but closes
                    return
            with theirs:
                other = {ours: theirs, theirs: ours}
                while True:
                    ready = wait(list(other), _LOOK_SECONDS)
                    for connection in ready:
                        assert isinstance(connection, Connection)
                        other[connection].send_bytes(connection.recv_bytes())
                    # A node that is cut off closes nothing, but Ray notices.
                    if not ready and self._has_ended:
                        return

    def _arrived(self) -> Connection | None:
        with contextlib.suppress(queue.Empty):
            return self._arrivals.get(timeout=_LOOK_SECONDS)
        return None

    @property
    def _has_ended(self) -> bool:
        return self.join(0)


class _Door:
    """Where tasks connect, and say by a secret that they are ours."""

    def __init__(self, host: str) -> None:
        self.key = secrets.token_bytes(32)
        self._socket = socket.create_server((host, 0))
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._arrivals: dict[int, queue.Queue[Connection]] = defaultdict(queue.Queue)
        threading.Thread(target=self._open, daemon=True).start()

    def expected(self, number: int) -> queue.Queue[Connection]:
        """Where the connection of a worker arrives."""
        return self._arrivals[number]

    def close(self) -> None:
        """Lets nobody in any more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _open(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                accepted, _ = self._socket.accept()
                # Each in a thread of its own: a stranger who says nothing keeps nobody waiting.
                threading.Thread(target=self._let_in, args=(accepted,), daemon=True).start()

    def _let_in(self, accepted: socket.socket) -> None:
        connection = Connection(accepted.detach())
        try:
            _end_with_the_other_side(connection)
            deliver_challenge(connection, self.key)
            answer_challenge(connection, self.key)
            number = connection.recv()
        except Exception:  # whatever a stranger sends
            connection.close()
        else:
            self._arrivals[number].put(connection)


@dataclass(frozen=True)
class _Orders:
    """What a task must know."""

    address: tuple[str, int]
    """Where it connects."""
    key: bytes
    number: int
    folder: str
    """Where it was begun, which may be there too."""
    cpus: float
    """That are the worker's, of those of the machine that it comes to."""


def _work(target: Target, orders: _Orders) -> None:
    """The task: a worker that is as one of this machine, but for where it runs."""
    if Path(orders.folder).is_dir():
        os.chdir(orders.folder)
    sys.path.insert(0, "")  # environments of the user's own, as the command line has it
    with Client(orders.address, authkey=orders.key) as connection:
        _end_with_the_other_side(connection)
        connection.send(orders.number)
        target(connection, None, memory_limit(min(1.0, orders.cpus / available_cores())))


def _end_with_the_other_side(connection: Any) -> None:
    """Lets the system look whether the other machine is still there."""
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            ours.setsockopt(socket.IPPROTO_TCP, option, value)


def _ray() -> Any:
    """Ray, quiet.

    Raises:
      ConfigError: It is not installed.
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
    """Joins a cluster; where none is named and none runs, starts one.

    Raises:
      WorkerError: It does not answer.
    """
    named = address or os.environ.get("RAY_ADDRESS") or _running_here()
    if named is not None and named != "auto":
        _knock(named)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with warnings.catch_warnings(), _signals_kept():
        warnings.simplefilter("ignore")
        try:
            if named is None:
                ray.init(address="local", include_dashboard=False, **quiet)
            else:
                ray.init(address=named, **quiet)
        except Exception as error:  # of a cluster that is none, or wants a token
            text = one_line(error)
            raise WorkerError(_silent(named or "of this machine", text)) from error


def _running_here() -> str | None:
    """The cluster that `ray start` has begun on this machine; a dead one stays noted."""
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        address = noted.read_text(encoding="utf-8").strip()
        _knock(address)
    except (OSError, WorkerError):
        return None
    return address


def _knock(address: str) -> None:
    """Looks whether anybody listens, for which Ray takes more than a minute.

    Raises:
      WorkerError: Nobody does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise WorkerError(_silent(address, str(error))) from error


def _silent(address: str, why: str) -> str:
    return (
        f"the Ray cluster {address} does not answer: {why}. Start one by `ray start --head`, give "
        "its HOST:PORT, or leave `ray_address` and RAY_ADDRESS out for one on this machine alone"
    )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray would end this process by its own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
