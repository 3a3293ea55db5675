from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any, NoReturn

import psutil
import pytest

from dqnkit.errors import ArgumentError, ConfigError, TrackingError
from dqnkit.tracking import ui
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.ui import _free_port, served
from tests.runs import make_store, record


@contextlib.contextmanager
def _listening(port: int = 0) -> Any:
    with socket.create_server((ui.HOST, port)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_in_use_is_refused() -> None:
    with _listening() as taken, pytest.raises(ArgumentError, match="the port is in use") as caught:
        _free_port(taken)
    assert (caught.value.argument, caught.value.value) == ("port", taken)
    assert _free_port(taken) == taken


def test_without_a_port_the_first_free_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with _listening() as taken:
        monkeypatch.setattr(ui, "DEFAULT_PORT", taken)
        monkeypatch.setattr(ui, "_PORTS_TRIED", 1)
        with pytest.raises(ConfigError, match=f"all ports from {taken} to {taken} are in use"):
            _free_port(None)
        monkeypatch.setattr(ui, "_PORTS_TRIED", 20)
        assert taken < _free_port(None) < taken + 20


def test_an_empty_store_is_not_served() -> None:
    with pytest.raises(ConfigError, match=r"there is nothing in .*`dqnkit train` makes a run"):
        served(locate_store()).__enter__()


def test_a_server_that_does_not_start_ends_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_store()
    popen = subprocess.Popen

    def broken(command: list[str], **named: Any) -> Any:
        said = "import sys; sys.exit('first\\nno database\\nof that kind')"
        return popen([command[0], "-c", said], **named)

    monkeypatch.setattr(subprocess, "Popen", broken)
    with (
        pytest.raises(TrackingError, match="did not start: first no database of that kind"),
        served(locate_store()),
    ):
        raise AssertionError("not reached")


def _get(address: str) -> int:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return int(answer.status)


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


@pytest.mark.slow
def test_the_server_ends_with_the_body() -> None:
    """A slow test: MLflow's server takes many seconds to start."""
    record(finals=[1.0], curve={0: [1.0]})
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with served(locate_store()) as (wait, address):
        assert _get(f"{address}/health") == 200
        children = psutil.Process().children(recursive=True)
        servers = [child for child in children if child.pid not in before]
        assert servers
        port = int(address.rpartition(":")[2])
        connections = [each for server in servers for each in server.net_connections()]
        assert {each.laddr.ip for each in connections if each.laddr.port == port} == {ui.HOST}
        servers[0].terminate()

        def waits() -> NoReturn:
            wait()

        with pytest.raises(TrackingError, match="ended by itself, with status"):
            waits()
    assert _wait_until(lambda: not any(server.is_running() for server in servers))
