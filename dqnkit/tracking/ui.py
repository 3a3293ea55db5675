"""MLflow's UI on a store, served by a process of its own to this machine only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NoReturn

from dqnkit.errors import ArgumentError, ConfigError, TrackingError
from dqnkit.tracking.location import StoreLocation

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
_PORTS_TRIED = 20
_START_SECONDS = 120.0
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens pages of this machine without the proxy that the environment may name."""
_ENVIRONMENT = {
    # One process is enough for one user; MLflow's jobs are for language models.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def served(
    store: StoreLocation, port: int | None = None
) -> Iterator[tuple[Callable[[], NoReturn], str]]:
    """Serve the UI in the body; yield a function that waits for the server, and its address.

    Args:
      store: Location of a store that is not a server itself.
      port: Port to serve on; None takes the first free one from 5000 upwards.

    Raises:
      ConfigError: If the port is taken, or the store is empty.
      TrackingError: If the server does not start, or ends while it is waited for.
    """
    check_not_empty(store)
    port = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    # Passed in the environment, a password does not show in the list of processes.
    environment = {**os.environ, **_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": store.uri}
    if store.artifacts is not None:
        # Runs trained through this server are found without it as well.
        command += ["--no-serve-artifacts", "--default-artifact-root", store.artifacts.as_uri()]
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            [*command, "--workers", "1"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal reaches this process only, which then ends the server.
            process_group=0,
        )
        try:
            address = f"http://{HOST}:{port}"
            _wait_for(server, address, output)
            yield lambda: _wait_until_it_ends(server, output), address
        finally:
            _end(server)


def check_not_empty(store: StoreLocation) -> None:
    """Check that a store has something to show.

    Raises:
      ConfigError: If it is an embedded store that does not exist yet.
    """
    if store.is_empty:
        raise ConfigError(
            f"there is nothing in {store.database} yet: `dqnkit train` makes a run; "
            "`tracking_uri` chooses another store"
        )


def _free_port(wanted: int | None) -> int:
    candidates = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if wanted is None else [wanted]
    for port in candidates:
        with socket.socket() as probe, contextlib.suppress(OSError):
            # Servers set this option too: a port in TIME_WAIT is free for them.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    if wanted is not None:
        raise ArgumentError("port", wanted, "the port is in use; give another one, or none")
    last = DEFAULT_PORT + _PORTS_TRIED - 1
    raise ConfigError(f"all ports from {DEFAULT_PORT} to {last} are in use: choose one with `port`")


def _wait_for(server: subprocess.Popen[bytes], address: str, output: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            _DIRECTLY.open(f"{address}/health", timeout=2) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise TrackingError(f"MLflow's server did not start: {_last_lines(output)}")


def _wait_until_it_ends(server: subprocess.Popen[bytes], output: IO[bytes]) -> NoReturn:
    code = server.wait()
    raise TrackingError(
        f"MLflow's server ended by itself, with status {code}: {_last_lines(output)}"
    )


def _last_lines(output: IO[bytes]) -> str:
    output.seek(0)
    return " ".join(output.read().decode(errors="replace").strip().splitlines()[-3:])


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
