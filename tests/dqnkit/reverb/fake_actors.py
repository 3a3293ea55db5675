"""Main functions of actor processes that need no server and load neither TensorFlow nor Reverb."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing.connection import Connection

from dqnkit.errors import UnsupportedEnvironmentError
from dqnkit.processes.launcher import detach_from_terminal


def idle(
    connection: Connection, output: str | None, memory_limit: int, *, address: str, number: int
) -> None:
    with contextlib.suppress(EOFError):
        connection.recv()


def die(
    connection: Connection, output: str | None, memory_limit: int, *, address: str, number: int
) -> None:
    assert output is not None
    detach_from_terminal(output)
    print(f"actor {number} of {address}", flush=True)  # noqa: T201 - what is tested
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(
    connection: Connection, output: str | None, memory_limit: int, *, address: str, number: int
) -> None:
    connection.send(UnsupportedEnvironmentError(f"no such environment for actor {number}"))
    connection.recv()


def hang(
    connection: Connection, output: str | None, memory_limit: int, *, address: str, number: int
) -> None:
    time.sleep(600)
