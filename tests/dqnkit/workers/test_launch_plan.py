from __future__ import annotations

from pathlib import Path

import pytest

from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.processes.launcher import LocalLauncher
from dqnkit.workers import ray_cluster
from dqnkit.workers.launch_plan import make_launch_plan
from dqnkit.workers.placement import LOCAL, Placement
from dqnkit.workers.pool import available_cores

RAY = Placement(launcher="ray")


class FakeRayLauncher:
    """A launcher of a cluster with room for six workers."""

    def __init__(self, placement: Placement) -> None:
        assert placement is RAY
        self.capacity = 6
        self.other_nodes = ["10.0.0.2", "10.0.0.3"]
        self.is_closed = False
        launchers.append(self)

    def close(self) -> None:
        self.is_closed = True


launchers: list[FakeRayLauncher] = []


@pytest.fixture(autouse=True)
def _fake_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    launchers.clear()
    monkeypatch.setattr(ray_cluster, "RayLauncher", FakeRayLauncher)


@pytest.mark.parametrize("uri", [None, "auto", "http://host:5000"])
def test_this_machine_has_room_for_a_worker_per_core(uri: str | None) -> None:
    plan = make_launch_plan(LOCAL, uri)
    assert isinstance(plan.launcher, LocalLauncher)
    assert (plan.capacity, plan.tracking_uri) == (available_cores(), uri)
    plan.launcher.close()


@pytest.mark.parametrize("uri", [None, "http://host:5000"])
def test_all_nodes_of_a_cluster_can_use_a_server(uri: str | None) -> None:
    plan = make_launch_plan(RAY, uri)
    assert plan.launcher is launchers[0]
    assert (plan.capacity, plan.tracking_uri) == (6, uri)


def test_other_nodes_cannot_use_a_file_of_this_machine() -> None:
    with pytest.raises(ArgumentError, match=r"10\.0\.0\.2, 10\.0\.0\.3.*mlflow\.db") as caught:
        make_launch_plan(RAY, "auto")
    assert caught.value.argument == "launcher"
    assert launchers[0].is_closed


def test_a_cluster_of_this_machine_uses_a_file_from_any_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = FakeRayLauncher.__init__

    def make_alone(self: FakeRayLauncher, placement: Placement) -> None:
        make(self, placement)
        self.other_nodes = []

    monkeypatch.setattr(FakeRayLauncher, "__init__", make_alone)
    uri = make_launch_plan(RAY, "auto").tracking_uri
    assert uri == f"sqlite:///{Path('mlruns/mlflow.db').resolve()}"


def test_a_wrong_uri_closes_the_launcher() -> None:
    with pytest.raises(ConfigError, match="scheme 'ftp' is unknown"):
        make_launch_plan(RAY, "ftp://host")
    assert launchers[0].is_closed
