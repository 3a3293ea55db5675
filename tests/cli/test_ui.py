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
from tests.cli.conftest import Run, assert_misused, record_solved
from tests.conftest import ROOT


def test_the_page_of_a_server_is_printed(run: Run) -> None:
    address = "https://user:secret@tracking.example/"
    assert run("ui", "--tracking-uri", address) == (0, "https://tracking.example\n", "")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--port", "0"], ["--port"]),
        (["--tracking-uri", "nowhere"], ["nothing in", "dqnkit train", "; --tracking-uri chooses"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    assert_misused(run("ui", *arguments), *parts)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_ui_answers_on_this_machine_alone_and_leaves_no_process(
    ending: signal.Signals,
) -> None:
    record_solved()
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
    """Return the addresses at which a process listens to a port, as Linux writes them."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    lines += Path("/proc/net/tcp6").read_text(encoding="ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    return {
        f[1].split(":")[0] for f in fields if f[3] == "0A" and int(f[1].split(":")[1], 16) == port
    }


def _processes_of(parent: int) -> list[int]:
    """Return the descendants of a process."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    children = [int(pid) for pid in path.read_text(encoding="ascii").split()]
    return children + [pid for child in children for pid in _processes_of(child)]


@pytest.mark.slow
def test_a_server_that_dies_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record_solved()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy must not be asked

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
    """Runs recorded one way are read the other way, and stdout contains only the document."""
    record_solved("before")
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
