"""`eval`, `render`, `compare`, `runs` and `ui` from the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from dqnkit.tracking import location
from dqnkit.tracking.ui import served
from tests.cli.conftest import Run
from tests.conftest import ROOT
from tests.runs import LEAN, record


def _solved(name: str = "solved") -> str:
    return record(
        name=name,
        weights=LEAN,
        with_policy=True,
        finals=[499.0, 500.0],
        curve={0: [10.0], 100: [499.0]},
    )


def test_eval_prints_a_table_and_says_where_it_is_recorded(run: Run) -> None:
    run_id = _solved()
    code, out, err = run("eval", "latest", "--episodes", "30", "--baseline", "random")
    assert (code, err) == (0, "")
    assert "solved · CartPole-v1 · seed 0" in out
    assert "500.0 (500.0 to 500.0)" in out
    trained, random = (line for line in out.splitlines() if line[:7] in {"trained", "random "})
    assert trained.split()[1] == random.split()[1] == "30"
    assert "difference of the IQMs: 4" in out
    assert f"recorded in the run solved ({run_id[:8]}) under final/" in out


def test_eval_json_is_one_document(run: Run) -> None:
    run_id = _solved()
    code, out, err = run("eval", run_id[:10], "--episodes", "4", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["run_id"] == run_id
    assert document["returns"] == [500.0] * 4
    assert document["random"] is None
    assert document["trained"]["n"] == 4


def test_render_says_what_it_made_and_where(run: Run) -> None:
    _solved()
    code, out, err = run("render", "solved", "--max-steps", "20", "-o", "sub/a.gif")
    assert (code, err) == (0, "")
    assert Path("sub/a.gif").read_bytes().startswith(b"GIF89a")
    assert "61 frames, 1.2 s at 50 fps" in out
    assert "sub/a.gif" in out
    assert "videos/policy-s0-1ep-20steps.gif of the run solved" in out
    code, out, _ = run("render", "solved", "--max-steps", "5", "--no-overlay", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["returns"] == {"trained": [5.0]}
    assert Path(document["path"]).is_file()


def test_compare_prints_differences_beside_scores(run: Run) -> None:
    _solved("one")
    _solved("two")
    code, out, err = run("compare", "one", "two", "-o", "out")
    assert code == 0
    assert err.startswith("warning: one (")  # the same seed of the same settings: one group
    assert out.splitlines()[1].startswith("A two")
    assert "out/learning_curves.png" in out
    code, out, _ = run("compare", "one", "--json")
    assert json.loads(out)["groups"][0]["runs"][0]["name"] == "one"


def test_runs_lists_and_filters(run: Run) -> None:
    assert run("runs")[1].startswith("no runs")
    assert json.loads(run("runs", "--json")[1]) == []
    assert not Path("mlruns").exists()
    run_id = _solved()
    code, out, err = run("runs", "--status", "finished", "--experiment", "cartpole")
    assert (code, err) == (0, "")
    header, line = out.splitlines()
    assert header.split()[:4] == ["id", "run", "experiment", "status"]
    assert line.split()[:4] == [run_id[:8], "solved", "cartpole", "finished"]
    (document,) = json.loads(run("runs", "--json")[1])
    assert (document["id"], document["metrics"]["final/return_iqm"]) == (run_id, 499.5)
    code, out, _ = run("runs", "--sort", "final/return_max")
    assert out.splitlines()[0].split()[-1] == "final/return_max"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["eval"], ["RUN"]),
        (["eval", "nothing"], ["no run 'nothing'", "solved ("]),
        (["eval", "latest", "--episodes", "0"], ["--episodes 0", "from 1 to"]),
        (["eval", "latest", "--episodes", "-5"], ["--episodes -5"]),
        (["eval", "latest", "--episodes", "many"], ["--episodes", "integer"]),
        (["eval", "latest", "--baseline", "expert"], ["--baseline", "random"]),
        (["eval", "./nowhere"], ["'nowhere'", "no such folder"]),
        (["eval", "models:/nothing@champion"], ["nothing", "registered models: none"]),
        (["eval", "unfinished"], ["unfinished", "has no policy"]),
        (["render", "latest", "-o", "a.avi"], ["a.avi", ".mp4 or .gif"]),
        (["render", "latest", "--fps", "0"], ["--fps 0"]),
        (["render", "latest", "-o", "file/a.mp4"], ["file/a.mp4", "cannot be written"]),
        (["compare"], ["name runs"]),
        (["compare", "latest", "nothing"], ["no run 'nothing'"]),
        (["runs", "--status", "lost"], ["--status", "finished"]),
        (["runs", "--sort", "nothing"], ["--sort nothing", "final/return_iqm"]),
        (["runs", "--experiment", "x"], ["no experiment 'x'", "cartpole"]),
        (["ui", "--port", "0"], ["--port"]),
        (["ui", "--tracking-uri", "nowhere"], ["nothing in", "dqnkit train"]),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(
    run: Run, arguments: list[str], parts: list[str]
) -> None:
    record(name="unfinished", status=None)
    _solved()
    Path("file").touch()
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err
    assert "Traceback" not in err
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_broken_policy_is_a_fault_outside(run: Run) -> None:
    _solved()
    (path,) = Path("mlruns/artifacts").rglob("saved_model.pb")
    path.write_bytes(b"torn")
    code, out, err = run("eval", "latest")
    assert (code, out) == (1, "")
    assert "cannot be read" in err
    assert "Traceback" not in err


def test_a_terminated_rendering_leaves_nothing() -> None:
    _solved()
    command = [sys.executable, "-c", "from cli.main import main; main()", "render", "latest"]
    process = subprocess.Popen(
        [*command, "-o", "out/a.mp4", "--episodes", "1000"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(Path.cwd().glob("out/.a.*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "error: interrupted\n"
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_ui_answers_on_this_machine_alone_and_leaves_no_process(
    ending: signal.Signals,
) -> None:
    _solved()
    command = [sys.executable, "-u", "-m", "cli.main", "ui"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    page = process.stdout.readline().strip()
    address, _, path = page.partition("/#/")
    assert address.startswith("http://127.0.0.1:")
    assert "experiments/1/runs?workflowType=machine_learning" in path
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert b"MLflow" in answer.read()
    port = int(address.rpartition(":")[2])
    assert _listening(port) == {"0100007F"}  # 127.0.0.1, as Linux writes it
    started = _processes_of(process.pid)
    assert started
    process.send_signal(ending)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert _listening(port) == set()


def _listening(port: int) -> set[str]:
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    lines += Path("/proc/net/tcp6").read_text(encoding="ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    return {
        f[1].split(":")[0] for f in fields if f[3] == "0A" and int(f[1].split(":")[1], 16) == port
    }


def _processes_of(parent: int) -> list[int]:
    """A process's children and theirs."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    children = [int(pid) for pid in path.read_text(encoding="ascii").split()]
    return children + [pid for child in children for pid in _processes_of(child)]


@pytest.mark.slow
def test_a_server_that_dies_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _solved()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which does not lead to this machine

    def kill_the_server() -> None:
        while not _listening(5099):
            time.sleep(0.2)
        time.sleep(3.0)  # until it has answered
        for pid in _processes_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_the_server)
    thread.start()
    code, out, err = run("ui", "--port", "5099")
    thread.join()
    assert code == 1
    assert "Ctrl-C ends it" in out
    assert "MLflow's server ended by itself" in err


@pytest.mark.slow
def test_a_store_works_through_its_server_and_without_it(run: Run) -> None:
    """What one way records, the other reads; stdout stays ours."""
    _solved("before")
    with served(location.locate_store()) as (_, page):
        address = page.partition("/#/")[0]
        train = ["train", "frozen-lake", "--name", "served", "--set", "training.num_iterations=50"]
        code, out, err = run(*train, "--json", "--tracking-uri", address)
        assert (code, err) == (0, "")
        assert json.loads(out)["run_name"] == "served"
        code, out, err = run(
            "eval", "before", "--episodes", "3", "--json", "--tracking-uri", address
        )
        assert (code, err) == (0, "")
        assert json.loads(out)["trained"]["mean"] == 500.0
        code, out, err = run("compare", "served", "--json", "--tracking-uri", address)
        assert (code, err) == (0, "")
        assert json.loads(out)["problems"] == []
    code, out, err = run("eval", "served", "--episodes", "1000", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["run_id"] is not None
    (document,) = (r for r in json.loads(run("runs", "--json")[1]) if r["name"] == "before")
    assert document["metrics"]["final/episodes"] == 3
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["comparison", "mlruns"]


def test_lists_and_comparisons_wait_for_no_tensorflow() -> None:
    _solved()
    code = """
import sys
from cli.main import run
assert run(["runs"]) == run(["compare", "latest"]) == 0
assert "mlflow" in sys.modules
sys.exit("tensorflow" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)


def test_a_path_with_a_space_is_told_as_it_is(run: Run) -> None:
    record(weights=LEAN, with_policy=True, tracking_uri="my runs")
    arguments = ("render", "latest", "--max-steps", "2", "--json", "--tracking-uri", "my runs")
    document = json.loads(run(*arguments)[1])
    assert Path(document["path"]).is_file()
