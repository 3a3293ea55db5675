"""Where a server listens, and what it says when it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb.library import reverb
from dqnkit.reverb.server import EVERYWHERE, ReplayServer, _listeners
from dqnkit.reverb.serving import serving
from dqnkit.reverb.tables import broadcast_tables
from tests import hosts
from tests.hosts import SERVER, Network
from tests.servers import free_port


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    made = ReplayServer(broadcast_tables())
    yield made
    made.close()


def _devices(port: int) -> set[bytes]:
    found = set()
    for listener in _listeners(port):
        with listener:
            device = listener.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        found.add(device.rstrip(b"\0"))
    return found


def test_it_listens_to_this_machine_alone(server: ReplayServer) -> None:
    assert reverb.Client(server.address).server_info()
    assert _devices(server.port) == {b"lo"}


@pytest.mark.parametrize("host", EVERYWHERE)
def test_it_listens_everywhere_when_told(host: str) -> None:
    server = ReplayServer(broadcast_tables(), host=host)
    assert _devices(server.port) == {b""}
    server.close()


@pytest.mark.slow
@pytest.mark.skipif(hosts.why_not() is not None, reason=f"{hosts.why_not()}")
def test_another_host_reaches_it_only_when_told(tmp_path: Path) -> None:
    look = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    with Network(tmp_path) as network:
        other = network.add("stranger")
        for host, reaches in (("127.0.0.1", False), ("0.0.0.0", True)):
            server = ReplayServer(broadcast_tables(), host=host)
            command = (sys.executable, "-c", look, SERVER, str(server.port))
            other.start(*command)
            assert (other.wait(30) == 0) is reaches, other.said
            command = (sys.executable, "-c", look, "127.0.0.1", str(server.port))
            assert subprocess.run(command, check=False).returncode == 0
            server.close()


def test_a_port_that_is_taken_is_refused(server: ReplayServer) -> None:
    with pytest.raises(ConfigError, match=f"--port {server.port}: cannot be listened at"):
        ReplayServer(broadcast_tables(), port=server.port)


def test_no_other_process_is_given_its_port_by_the_system(server: ReplayServer) -> None:
    """Reverb's sockets share their port; a second server must not be given the same."""
    taken = []
    for _ in range(300):
        other = socket.socket(socket.AF_INET6)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("", 0))
        taken.append(other)
    assert server.port not in {other.getsockname()[1] for other in taken}
    for other in taken:
        other.close()


def test_a_closed_server_leaves_its_port() -> None:
    port = free_port()
    for _ in range(3):
        ReplayServer(broadcast_tables(), port=port).close()


@pytest.mark.parametrize("host", ["10.0.0.1", "example.org", "127.0.0.2", ""])
def test_one_address_alone_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen at one address alone"):
        ReplayServer(broadcast_tables(), host=host)


def test_what_a_server_held_it_begins_with(tmp_path: Path) -> None:
    config, spec = resolve(loading.load("tutorial-reverb", ["replay.replay_buffer_max_length=500"]))
    options = {"host": "127.0.0.1", "port": None, "folder": tmp_path / "kept"}
    with serving(config, spec, **options) as served:
        assert served.checkpoint() is None  # there is nothing to keep
        client = reverb.Client(f"127.0.0.1:{served.port}")
        frames = {"frames": np.zeros((2, 4), np.float32), "scalars": np.zeros(3, np.float32)}
        for _ in range(7):
            client.insert(frames, {"replay": 1.0})
        assert served.checkpoint() is not None
        client.insert(frames, {"replay": 1.0})
    with serving(config, spec, **options) as served:
        assert served.num_transitions == 7
        (kept,) = [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]
        assert (kept / "DONE").exists()


def test_an_experiment_without_reverb_has_no_server() -> None:
    config, spec = resolve(loading.load("tutorial"))
    with (
        pytest.raises(ConfigError, match="kind=uniform, which needs no server"),
        serving(config, spec, host="127.0.0.1", port=None, folder=None),
    ):
        pass


def test_a_torn_checkpoint_is_said(tmp_path: Path) -> None:
    config, spec = resolve(loading.load("tutorial-reverb"))
    torn = tmp_path / "2026-01-01T00:00:00.0+00:00"
    torn.mkdir()
    for name in ("tables.tfrecord", "chunks.tfrecord", "items.tfrecord", "DONE"):
        (torn / name).write_bytes(b"not one")
    with (
        pytest.raises(ReplayError, match="is damaged"),
        serving(config, spec, host="127.0.0.1", port=None, folder=tmp_path),
    ):
        pass
