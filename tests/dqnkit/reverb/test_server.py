from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ArgumentError, ConfigError, ReplayError
from dqnkit.reverb import server as servers
from dqnkit.reverb.library import reverb
from dqnkit.reverb.server import EVERYWHERE, ReplayServer, _listeners, serve_experiment
from dqnkit.reverb.tables import make_broadcast_tables
from tests import hosts
from tests.dqnkit.reverb.helpers import LOCAL
from tests.hosts import SERVER, Network
from tests.servers import free_port


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    started = ReplayServer(make_broadcast_tables())
    yield started
    started.close()


def _devices(port: int) -> set[bytes]:
    """Return the devices that the sockets listening at a port are bound to."""
    found = set()
    for listener in _listeners(port):
        with listener:
            device = listener.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        found.add(device.rstrip(b"\0"))
    return found


def _experiment(*assignments: str) -> tuple[Config, EnvSpec]:
    return resolve(
        loading.load("tutorial-reverb", ["replay.replay_buffer_max_length=500", *assignments])
    )


def _insert(port: int, count: int) -> None:
    client = reverb.Client(f"127.0.0.1:{port}")
    frames = {"frames": np.zeros((2, 4), np.float32), "scalars": np.zeros(3, np.float32)}
    for _ in range(count):
        client.insert(frames, {"replay": 1.0})


def _cannot_serve(config: Config, spec: EnvSpec, checkpoints: Path | None = None) -> None:
    with serve_experiment(config, spec, host="127.0.0.1", port=None, checkpoints=checkpoints):
        pass


# -- A server in this process


def test_only_this_machine_can_connect_by_default(server: ReplayServer) -> None:
    assert reverb.Client(server.address).server_info()
    assert _devices(server.port) == {b"lo"}


@pytest.mark.parametrize("host", EVERYWHERE)
def test_a_public_server_listens_on_all_devices(host: str) -> None:
    server = ReplayServer(make_broadcast_tables(), host=host)
    assert _devices(server.port) == {b""}
    server.close()


@pytest.mark.slow
@pytest.mark.skipif(hosts.why_not() is not None, reason=f"{hosts.why_not()}")
def test_another_host_can_connect_to_a_public_server_only(tmp_path: Path) -> None:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    with Network(tmp_path) as network:
        other = network.add("stranger")
        for host, connects in (("127.0.0.1", False), ("0.0.0.0", True)):
            server = ReplayServer(make_broadcast_tables(), host=host)
            other.start(sys.executable, "-c", connect, SERVER, str(server.port))
            assert (other.wait(30) == 0) is connects, other.output
            command = (sys.executable, "-c", connect, "127.0.0.1", str(server.port))
            assert subprocess.run(command, check=False).returncode == 0
            server.close()


def test_a_port_in_use_is_rejected(server: ReplayServer) -> None:
    with pytest.raises(ArgumentError, match="the server cannot listen there") as raised:
        ReplayServer(make_broadcast_tables(), port=server.port)
    assert (raised.value.argument, raised.value.value) == ("port", server.port)


def test_the_system_gives_the_port_to_no_other_socket(server: ReplayServer) -> None:
    """Reverb opens its port with SO_REUSEPORT: two servers at one port would share clients."""
    taken = []
    for _ in range(300):
        other = socket.socket(socket.AF_INET6)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("", 0))
        taken.append(other)
    assert server.port not in {other.getsockname()[1] for other in taken}
    for other in taken:
        other.close()


def test_a_closed_server_releases_its_port() -> None:
    port = free_port()
    for _ in range(3):
        ReplayServer(make_broadcast_tables(), port=port).close()


@pytest.mark.parametrize("host", ["10.0.0.1", "example.org", "127.0.0.2", ""])
def test_a_single_address_is_rejected(host: str) -> None:
    with pytest.raises(ArgumentError, match="cannot listen at a single address") as raised:
        ReplayServer(make_broadcast_tables(), host=host)
    assert str(raised.value).startswith(f"host={host}: ")


@pytest.mark.parametrize(
    ("listeners", "reason"),
    [([], "its listening socket cannot be found"), ([socket.socket], "cannot be bound")],
)
def test_a_server_that_cannot_be_restricted_is_closed(
    monkeypatch: pytest.MonkeyPatch, listeners: list[type[socket.socket]], reason: str
) -> None:
    class Unbound(socket.socket):
        def setsockopt(self, *_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

    port = free_port()
    monkeypatch.setattr(servers, "_listeners", lambda _: iter([Unbound() for _ in listeners]))
    with pytest.raises(ReplayError, match=rf"{reason}.*host=0\.0\.0\.0"):
        ReplayServer(make_broadcast_tables(), port=port)
    monkeypatch.undo()
    ReplayServer(make_broadcast_tables(), port=port).close()


# -- The server of an experiment


def test_a_server_begins_with_its_newest_checkpoint(tmp_path: Path) -> None:
    config, spec = _experiment()
    kept = tmp_path / "new" / "kept"
    local = {"host": "127.0.0.1", "port": None, "checkpoints": kept}
    with serve_experiment(config, spec, **local) as served:
        assert served.checkpoint() is None  # there is no transition
        _insert(served.port, 7)
        path = served.checkpoint()
        assert path is not None
        assert Path(path).parent == kept.resolve()
        _insert(served.port, 1)
        assert served.num_transitions == 8
    with serve_experiment(config, spec, **local) as served:
        assert served.num_transitions == 7
    (folder,) = [path for path in kept.iterdir() if path.is_dir()]
    assert (folder / "DONE").exists()


def test_without_a_folder_no_checkpoint_is_kept(tmp_path: Path) -> None:
    with serve_experiment(*_experiment(), **LOCAL) as served:
        _insert(served.port, 1)
        assert served.checkpoint() is None
        written = Path(reverb.Client(f"127.0.0.1:{served.port}").checkpoint())
        assert written.exists()  # a learner may request one
    assert not written.exists()
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_without_reverb_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"replay\.kind=uniform, which needs no server"):
        _cannot_serve(*resolve(loading.load("tutorial")))


def test_a_damaged_checkpoint_raises_replay_error(tmp_path: Path) -> None:
    damaged = tmp_path / "2026-01-01T00:00:00.0+00:00"
    damaged.mkdir()
    for name in ("tables.tfrecord", "chunks.tfrecord", "items.tfrecord", "DONE"):
        (damaged / name).write_bytes(b"not one")
    with pytest.raises(ReplayError, match="is damaged"):
        _cannot_serve(*_experiment(), tmp_path)


def test_the_checkpoint_of_another_experiment_is_rejected(tmp_path: Path) -> None:
    config, spec = _experiment()
    with serve_experiment(config, spec, host="127.0.0.1", port=None, checkpoints=tmp_path) as one:
        _insert(one.port, 1)
        one.checkpoint()
    with pytest.raises(ArgumentError, match="transitions 500, not 600") as raised:
        _cannot_serve(*_experiment("replay.replay_buffer_max_length=600"), tmp_path)
    assert str(raised.value).startswith(f"checkpoints={tmp_path}: the checkpoint there belongs")


def test_a_folder_that_cannot_be_created_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="cannot be created: Not a directory") as raised:
        _cannot_serve(*_experiment(), tmp_path / "file" / "kept")
    assert raised.value.argument == "checkpoints"
