"""The launcher with a double of Ray; `tests/test_ray.py` has real clusters."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection, Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dqnkit.errors import ArgumentError, WorkerError
from dqnkit.workers import ray_cluster
from dqnkit.workers.placement import Placement
from dqnkit.workers.ray_cluster import (
    RayLauncher,
    _ConnectionServer,
    _RayTask,
    _run_worker,
    _running_here,
    _TaskArguments,
)
from tests.servers import free_port

GPU_NODE = {"CPU": 4.0, "GPU": 2.0}
CPU_NODE = {"CPU": 16.0}


class FakeRay:
    """Ray with some nodes, whose tasks run in threads of this process."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
        self.addresses: list[str] = []
        self.shutdowns = 0
        self.options: list[dict[str, Any]] = []
        self.cancelled: list[Any] = []
        self._nodes = [
            {"Alive": True, "Resources": node, "NodeManagerAddress": f"127.0.0.{number}"}
            for number, node in enumerate(nodes, start=1)
        ]
        lost = {"Alive": False, "Resources": {"CPU": 99.0}, "NodeManagerAddress": "127.0.0.99"}
        self._nodes.append(lost)
        self._is_initialized = False
        self.error: Exception | None = None
        """Exception of `init`, or of a task that has ended."""

    def is_initialized(self) -> bool:
        return self._is_initialized

    def init(self, address: str, **_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        if self.error is not None:
            raise self.error
        self.addresses.append(address)
        self._is_initialized = True

    def shutdown(self) -> None:
        self.shutdowns += 1

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes

    def cluster_resources(self) -> dict[str, float]:
        alive = [node["Resources"] for node in self._nodes if node["Alive"]]
        return {kind: sum(each.get(kind, 0.0) for each in alive) for kind in ("CPU", "GPU")}

    def remote(self, **options: Any) -> Callable[[Callable[..., None]], Any]:
        def decorate(function: Callable[..., None]) -> Any:
            def start(*arguments: Any) -> threading.Thread:
                thread = threading.Thread(target=function, args=arguments, daemon=True)
                thread.start()
                return thread

            def with_options(**more: Any) -> Any:
                self.options.append({**options, **more})
                return SimpleNamespace(remote=start)

            return SimpleNamespace(options=with_options)

        return decorate

    def wait(self, references: list[Any], timeout: float | None) -> tuple[list[Any], list[Any]]:
        (thread,) = references
        thread.join(timeout)
        return ([], references) if thread.is_alive() else (references, [])

    def get(self, reference: Any, timeout: float) -> None:
        if self.error is not None:
            raise self.error

    def cancel(self, reference: Any, force: bool) -> None:
        assert force
        self.cancelled.append(reference)


@pytest.fixture(autouse=True)
def _no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _launch(monkeypatch: pytest.MonkeyPatch, ray: FakeRay, **placement: Any) -> RayLauncher:
    monkeypatch.setattr(ray_cluster, "_import_ray", lambda: ray)
    return RayLauncher(Placement(launcher="ray", **placement))


def _answer(connection: Connection, output: str | None, most_memory: int) -> None:
    """Run a worker that repeats everything until its connection closes."""
    connection.send((output, most_memory > 0))
    with contextlib.suppress(EOFError):
        while True:
            connection.send(connection.recv())


@pytest.mark.parametrize(
    ("placement", "capacity"),
    [
        ({}, 20),
        ({"cpus": 3.0}, 6),
        ({"gpus": 1.0}, 2),
        ({"gpus": 0.25}, 8),
        ({"gpus": 0.25, "cpus": 4.0}, 5),
        ({"cpus": 16.0}, 1),
    ],
)
def test_a_cluster_has_room_by_its_cpus_and_gpus(
    monkeypatch: pytest.MonkeyPatch, placement: dict[str, float], capacity: int
) -> None:
    launcher = _launch(monkeypatch, FakeRay(GPU_NODE, CPU_NODE), **placement)
    assert launcher.capacity == capacity
    assert launcher.other_nodes == ["127.0.0.2"]
    launcher.close()


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({"cpus": 17.0}, "cpus=17: no node .* has 17 CPUs and 0 GPUs; .* 16 CPUs and 2 GPUs"),
        ({"gpus": 4.0}, "gpus=4: no node .* has 1 CPUs and 4 GPUs"),
        ({"cpus": 8.0, "gpus": 1.0}, "cpus=8: no node"),  # each is on another node
    ],
)
def test_resources_that_no_node_has_are_refused(
    monkeypatch: pytest.MonkeyPatch, placement: dict[str, float], message: str
) -> None:
    ray = FakeRay(GPU_NODE, CPU_NODE)
    with pytest.raises(ArgumentError, match=message):
        _launch(monkeypatch, ray, **placement)
    assert ray.shutdowns == 1


def test_a_worker_is_a_task_that_connects_to_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(CPU_NODE)
    launcher = _launch(monkeypatch, ray, cpus=2.0, gpus=0.0)
    path = sys.path.copy()
    handles = [launcher.start(_answer, number, 2) for number in range(2)]
    for handle in handles:
        # There is no file for output: Ray keeps that of its tasks.
        assert handle.connection.recv() == (None, True)
        handle.connection.send("an order")
        assert handle.connection.recv() == "an order"
        assert not handle.join(0.0)
    assert [each["name"] for each in ray.options] == ["dqnkit-worker-0", "dqnkit-worker-1"]
    assert {(each["num_cpus"], each["num_gpus"]) for each in ray.options} == {(2.0, 0.0)}
    for handle in handles:
        handle.connection.close()
        assert handle.join(10.0)
    launcher.close()
    assert ray.shutdowns == 1
    sys.path[:] = path


def test_a_worker_runs_in_the_parents_folder_if_its_node_has_it(tmp_path: Path) -> None:
    server = _ConnectionServer("127.0.0.1")
    there = tmp_path / "there"
    there.mkdir()
    path = sys.path.copy()
    for folder, expected in ((str(there), there), ("/no/such/folder", there)):
        arguments = _TaskArguments(server.address, server.key, 5, folder, 1.0)
        _run_worker(lambda *_: None, arguments)
        assert Path.cwd() == expected
        assert sys.path[0] == ""
        server.connections(5).get(timeout=10.0).close()
    server.close()
    sys.path[:] = path


def test_the_end_of_a_task_closes_its_connection() -> None:
    ray = FakeRay()
    connections: queue.Queue[Connection] = queue.Queue()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    task = _RayTask(ray, thread, connections)
    ours, theirs = Pipe()
    connections.put(theirs)
    ours.send("an event")
    assert task.connection.recv() == "an event"
    ended.set()  # the node is lost, and `ours` stays open
    with pytest.raises(EOFError):
        task.connection.recv()
    ours.close()


def test_a_task_that_ends_before_it_connects_closes_its_connection() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    task = _RayTask(FakeRay(), thread, queue.Queue())
    with pytest.raises(EOFError):
        task.connection.recv()


def test_the_cause_of_a_tasks_end_is_that_of_ray() -> None:
    ray = FakeRay()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    task = _RayTask(ray, thread, queue.Queue())
    assert task.exit_cause() == "its Ray task ended"
    ray.error = RuntimeError("the node\n  has died")
    assert task.exit_cause() == "its Ray task ended: the node has died"
    task.kill()
    assert ray.cancelled == [thread]


def test_unknown_clients_do_not_block_workers() -> None:
    server = _ConnectionServer("127.0.0.1")
    silent = socket.create_connection(server.address)
    rude = socket.create_connection(server.address)
    rude.sendall(b"\x00\x00\x00\x05hello" * 100)
    with Client(server.address, authkey=server.key) as ours:
        ours.send(3)
        connection = server.connections(3).get(timeout=10)
        connection.send("hello")
        assert ours.recv() == "hello"
        connection.close()
    for each in (silent, rude):
        each.close()
    server.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(server.address)


def test_a_connection_of_the_caller_is_used_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(CPU_NODE)
    ray.init("its-own")
    launcher = _launch(monkeypatch, ray, ray_address="127.0.0.1:1")
    launcher.close()
    assert (ray.addresses, ray.shutdowns) == (["its-own"], 0)


def test_a_cluster_is_started_if_none_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(CPU_NODE)
    handler = lambda *_: None  # noqa: E731 - a handler to be restored
    signal.signal(signal.SIGTERM, handler)
    _launch(monkeypatch, ray).close()
    assert (ray.addresses, ray.shutdowns) == (["local"], 1)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_address_is_given_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for given, variable in ((address, "ignored:1"), (None, address), ("auto", "ignored:1")):
            ray = FakeRay(CPU_NODE)
            monkeypatch.setenv("RAY_ADDRESS", variable)
            _launch(monkeypatch, ray, ray_address=given).close()
            assert ray.addresses == [given or variable]


def test_a_cluster_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = f"127.0.0.1:{free_port()}"
    with pytest.raises(WorkerError, match=f"the Ray cluster {nothing} does not answer: .*refused"):
        _launch(monkeypatch, FakeRay(CPU_NODE), ray_address=nothing)
    ray = FakeRay(CPU_NODE)
    ray.error = RuntimeError("no token")
    with pytest.raises(WorkerError, match="cluster of this machine does not answer: no token"):
        _launch(monkeypatch, ray)


def test_the_file_of_a_dead_cluster_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert _running_here() is None
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray" / "ray_current_cluster"
    file.write_text(f"127.0.0.1:{free_port()}", encoding="utf-8")
    assert _running_here() is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        file.write_text(f"{address}\n", encoding="utf-8")
        assert _running_here() == address


def test_ray_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(ArgumentError, match=r"launcher=ray: Ray is not installed.*dqnkit\[ray\]"):
        RayLauncher(Placement(launcher="ray"))
