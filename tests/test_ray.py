"""Workers on Ray clusters with one or several nodes, and the loss of nodes and parents."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dqnkit.tracking.location import locate_store
from dqnkit.tuning.storage import locate_storage
from tests.processes import client
from tests.servers import free_port

pytest.importorskip("ray", reason="Ray is not installed: uv sync --extra ray")
pytestmark = pytest.mark.slow

TRIALS = 8
SHORT = [
    *("--set", "training.num_iterations=6000", "--set", "evaluation.eval_interval=500"),
    *("--set", "evaluation.final_episodes=20"),
]
SEARCH = [
    *("tune", "tutorial", "--study", "on-ray", "--trials", str(TRIALS), "--confirm", "1"),
    *("--launcher", "ray", *SHORT),
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # like a cluster of `ray start`
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


class Cluster:
    """Nodes on this machine, each of which is a raylet with one CPU."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.nodes: list[set[psutil.Process]] = []
        self._start("--head", "--port", str(self.port), "--include-dashboard", "false")

    def add(self) -> None:
        """Add a node."""
        self._start("--address", self.address)

    def lose(self, number: int) -> None:
        """Kill all processes of a node, as if its machine was lost."""
        for process in self.nodes[number]:
            _end(process)

    def stop(self) -> None:
        """Kill all nodes, the head last."""
        for number in reversed(range(len(self.nodes))):
            self.lose(number)

    def _start(self, *options: str) -> None:
        before = set(psutil.process_iter())
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", *options),
                *("--num-cpus", "1", "--node-ip-address", "127.0.0.1", "--disable-usage-stats"),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        started = set(psutil.process_iter()) - before
        self.nodes.append({p for p in started if _is_rays(p)})


def _is_rays(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "/ray/" in line or line.startswith("ray::")


def _end(process: psutil.Process) -> None:
    try:
        children = process.children(recursive=True)
        process.kill()
    except psutil.Error:
        return
    for child in children:
        _end(child)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.stop()


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _read_until(process: subprocess.Popen[str], ended: int) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        ended -= " complete " in line or " pruned " in line
        if ended <= 0:
            return "".join(lines)
    pytest.fail(f"the search ended by itself: {''.join(lines)}")


def _check_result(process: subprocess.Popen[str]) -> str:
    import optuna

    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    trials = optuna.load_study(study_name="on-ray", storage=_open_storage()).trials
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == TRIALS
    assert states["RUNNING"] == states["WAITING"] == 0
    runs = _runs()
    assert "RUNNING" not in {run.info.status for run in runs}
    for trial in trials:
        if trial.state.name in {"COMPLETE", "PRUNED"}:
            history = client().get_metric_history(trial.user_attrs["run_id"], "eval/return_mean")
            assert len(history) == len(trial.intermediate_values) + 1
    assert "Traceback" not in out
    return str(out)


def _open_storage() -> Any:
    return locate_storage(None).open("on-ray")


def _runs() -> list[Any]:
    mlflow = client(locate_store().uri)
    ids = [each.experiment_id for each in mlflow.search_experiments()]
    return list(mlflow.search_runs(ids, max_results=1000))


def _tasks() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if "ray::dqnkit" in " ".join(_command(p))]


def _raylets() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if "raylet" in "".join(_command(p)[:1])]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _end_in_time(find: Callable[[], list[psutil.Process]], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while find():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_the_trial_of_a_lost_node_is_repeated(cluster: Cluster, tally: Callable[..., None]) -> None:
    for _ in range(2):
        cluster.add()
    process = _start(*SEARCH, "--ray-address", cluster.address)
    output = _read_until(process, 2)
    assert "3 workers" in output
    _suspend_with_a_trial(cluster.nodes[2])
    cluster.lose(2)
    out = _check_result(process)
    assert "it is repeated" in out
    assert _end_in_time(_tasks)
    tally("nodes lost")


def _suspend_with_a_trial(node: set[psutil.Process]) -> None:
    """Suspend a node's worker while it has a trial, as each of the three workers then has."""
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        children = [c for p in node if p.is_running() for c in p.children(recursive=True)]
        for task in [c for c in children if "ray::dqnkit" in " ".join(_command(c))]:
            task.suspend()
            # Its last event may still be on its way, and be followed by a new trial.
            if all(_running() == 3 for _ in _every(0.2, seconds=1.0)):
                return
            task.resume()
        time.sleep(0.2)
    pytest.fail("the node's worker never had a trial")


def _every(interval: float, seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(interval)


def _running() -> int:
    import optuna

    trials = optuna.load_study(study_name="on-ray", storage=_open_storage()).trials
    return sum(trial.state.name == "RUNNING" for trial in trials)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_tasks(number: signal.Signals) -> None:
    """A cluster that was started for the search ends too."""
    process = _start(*SEARCH, "--workers", "2")
    _read_until(process, 1)
    assert _tasks()
    process.send_signal(number)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130, out
    assert "--launcher ray" in out
    assert "Traceback" not in out
    assert _end_in_time(_tasks)
    assert _end_in_time(_raylets)
    assert "RUNNING" not in {run.info.status for run in _runs()}
    _check_result(_start(*SEARCH, "--workers", "2"))


def test_all_tasks_end_when_the_parent_is_killed(cluster: Cluster) -> None:
    process = _start(*SEARCH, "--ray-address", cluster.address)
    _read_until(process, 1)
    assert _tasks()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _end_in_time(_tasks)
    _check_result(_start(*SEARCH, "--ray-address", cluster.address))


def test_seeds_have_the_same_results_as_on_this_machine(cluster: Cluster) -> None:
    cluster.add()
    common = ("train", "tutorial", "--seeds", "2", *SHORT)
    ray = ("--launcher", "ray", "--ray-address", cluster.address)
    for more in ((), ray):
        process = _start(*common, *more)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    curves = Counter(
        tuple(p.value for p in client().get_metric_history(run.info.run_id, "eval/return_mean"))
        for run in _runs()
        if run.data.tags["dqnkit.kind"] == "training"
    )
    assert sorted(curves.values()) == [2, 2]


def _tune(*arguments: str) -> tuple[int, str]:
    process = _start("tune", "tutorial", "--trials", "2", *arguments)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def test_wrong_arguments_are_one_message_and_leave_no_study(cluster: Cluster) -> None:
    ray = ("--launcher", "ray")
    nothing = f"127.0.0.1:{free_port()}"
    for arguments, code, parts in (
        (("--cpus", "2"), 2, ["--cpus 2", "--launcher ray"]),
        ((*ray, "--ray-address", "somewhere"), 2, ["'somewhere'", "HOST:PORT"]),
        ((*ray, "--ray-address", "ray://x:1"), 2, ["ray://x:1", "node of the cluster"]),
        ((*ray, "--cpus", "0"), 2, ["--cpus 0", "above 0"]),
        ((*ray, "--ray-address", cluster.address, "--gpus", "4"), 2, ["--gpus 4", "0 GPUs"]),
        ((*ray, "--ray-address", nothing), 1, [nothing, "does not answer", "ray start"]),
    ):
        returned, out = _tune(*arguments)
        assert returned == code, out
        assert out.count("error:") == 1
        for part in parts:
            assert part in out
        assert "Traceback" not in out
    assert not list(Path("mlruns").glob("studies/*.journal"))
