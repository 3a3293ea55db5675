from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli import main
from dqnkit.tracking import location
from tests.cli.conftest import FAST, Run, assert_misused
from tests.processes import assert_same_state, last_state
from tests.runs import record

GRAPH = ("--set", "training.loop=graph")


def _runs() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(location.locate_store().uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments))


def test_a_finished_run_is_recorded_and_printed(run: Run) -> None:
    code, out, err = run("train", "tutorial", "--seed", "3", "--name", "my-run", *FAST, *GRAPH)
    assert (code, err) == (0, "")
    assert "tutorial · CartPole-v0 · graph loop · seed 3  run my-run" in out
    assert "95 % interval" in out
    assert "dqnkit ui\n" in out
    (recorded,) = _runs()
    assert (recorded.info.status, recorded.info.run_name) == ("FINISHED", "my-run")
    assert recorded.info.run_id in out
    assert recorded.data.params["training.seed"] == "3"
    assert recorded.data.tags["dqnkit.version"] == main.__version__

    # A complete run cannot be resumed.
    result = run("train", "--resume", "my-run")
    assert_misused(result, "error: --resume my-run: the run my-run (", "all 60 iterations")


def test_json_is_one_document_and_nothing_else(run: Run) -> None:
    code, out, err = run("train", "--json", "--env", "Acrobot-v1", *FAST)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["status"] == "FINISHED"
    assert document["experiment"] == "acrobot"
    assert document["env_steps"] == 24 + 60 * 8
    assert document["final"]["n"] == 10
    assert _runs()[0].data.params["env.id"] == "Acrobot-v1"
    json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_output_of_an_environment_does_not_mix_with_the_document(
    capfd: pytest.CaptureFixture[str],
) -> None:
    tracking = ("--set", "tracking.enabled=false")
    code = main.run(["train", "--json", "--env", "tests.environments:Loud-v0", *tracking, *FAST])
    captured = capfd.readouterr()
    assert code == 0
    assert json.loads(captured.out)["status"] == "FINISHED"
    assert "said by Python" in captured.err
    assert "said by a child" in captured.err


def test_quiet_prints_nothing(run: Run) -> None:
    tracking = ("--set", "tracking.enabled=false")
    assert run("train", "tutorial", "-q", *tracking, *FAST) == (0, "", "")
    assert not Path("mlruns").exists()


def test_the_store_can_be_chosen(run: Run) -> None:
    code, out, _ = run("train", "tutorial", "--tracking-uri", "my-store", *FAST)
    assert code == 0
    assert f"dqnkit ui --tracking-uri sqlite:///{Path('my-store/mlflow.db').resolve()}" in out
    assert Path("my-store/mlflow.db").is_file()
    assert not Path("mlruns").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["cartpol"], ["'cartpol'", "did you mean 'cartpole'"]),
        (["missing.yaml"], ["'missing.yaml'", "`dqnkit experiments` lists"]),
        (["--env", "CartPole-v7"], ["'CartPole-v7'", "did you mean"]),
        (["--env", "Pendulum-v1"], ["Box(-2.0, 2.0", "Discrete"]),
        (["--set", "agent.gama=1"], ["agent.gama", "did you mean 'gamma'"]),
        (["--set", "agent.gamma=2"], ["agent.gamma", "2", "less than or equal to 1"]),
        (["--seed", "-4"], ["training.seed", "-4"]),
        (["--seed", "many"], ["--seed", "integer"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--tracking-uri", "ftp://x"], ["ftp"]),
        (["--workers", "2"], ["--workers 2: ", "--seeds K"]),
        (["--launcher", "ray"], ["--launcher ray: ", "--seeds K"]),
        (["--from-study", "none"], ["'none'", "mlruns/studies"]),
        (["cartpole", "--from-study", "none"], ["cartpole", "--from-study none"]),
        (["--env", "CartPole-v1", "--from-study", "none"], ["CartPole-v1", "--from-study none"]),
        (["--storage", "sqlite:///x.db"], ["--storage: ", "--from-study"]),
        (["--resume", "x"], ["there are no runs", "dqnkit train", "; --tracking-uri chooses"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    assert_misused(run("train", *arguments), *parts)
    assert not Path("mlruns/mlflow.db").exists()


@pytest.mark.parametrize(
    "option",
    [
        *(("cartpole",), ("--env", "CartPole-v1"), ("--set", "agent.gamma=0.9"), ("--seed", "1")),
        *(("--seeds", "2"), ("--workers", "2"), ("--actors", "2"), ("--from-study", "s")),
        *(("--storage", "sqlite:///x.db"), ("--name", "n"), ("--launcher", "ray")),
        *(("--ray-address", "a:1"), ("--cpus", "2"), ("--gpus", "0.5")),
    ],
    ids=" ".join,
)
def test_a_run_is_resumed_with_its_own_settings(run: Run, option: tuple[str, ...]) -> None:
    name = option[0] if option[0].startswith("-") else "EXPERIMENT"
    assert_misused(run("train", "--resume", "x", *option), "error: --resume x: ", f" {name} ")


def test_an_unknown_run_to_resume_is_explained_with_a_note(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqnkit.runs.resumption.count_undelivered", lambda _: 1)
    record()
    result = run("train", "--resume", "b-run")
    assert_misused(result, "there is no run 'b-run'", "\nsome runs are not fully in the store yet")


def test_yaml_that_does_not_parse_is_one_message(run: Run) -> None:
    Path("bad.yaml").write_text("agent: [", encoding="utf-8")
    assert_misused(run("train", "bad.yaml"), "bad.yaml: is not valid YAML")


def test_a_folder_that_cannot_be_written_is_one_message(run: Run) -> None:
    Path("mlruns").write_text("in the way", encoding="utf-8")
    code, _, err = run("train", "tutorial", *FAST)
    assert code == 2
    assert "cannot be written" in err
    assert "choose another store with --tracking-uri" in err


def test_a_tracking_server_that_does_not_answer_costs_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.5)
    server = ("--tracking-uri", "http://127.0.0.1:9")
    code, out, err = run("train", "tutorial", *server, *FAST)
    assert code == 0
    assert "http://127.0.0.1:9 does not answer: the run is kept in" in err
    assert "sync --tracking-uri http://127.0.0.1:9` sends them" in err
    assert "Traceback" not in err
    assert "final" in out

    code, _, err = run("sync", *server)
    assert code == 1
    assert "Is it running? Choose another store with --tracking-uri" in err
    code, _, err = run("sync")
    assert code == 1
    assert "belongs to the store http://127.0.0.1:9: choose that with --tracking-uri" in err
    code, _, err = run("runs")
    assert code == 0
    assert "sync --tracking-uri http://127.0.0.1:9` sends them" in err
    code, out, err = run("train", "--seeds", "2", "tutorial", *server, *FAST)
    assert code == 1
    assert "cannot be used" in err


def test_a_run_that_diverges_is_recorded_as_failed(run: Run) -> None:
    diverging = ("--set", "optimizer.learning_rate=1e30", "--set", "training.num_iterations=5000")
    code, _, err = run("train", "tutorial", *FAST, *diverging)
    assert code == 1
    assert "learning_rate" in err
    assert _runs()[0].info.status == "FAILED"


def _console_script(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_fresh_process_gives_the_same_curve_bit_for_bit_though_nobody_reads_it(run: Run) -> None:
    arguments = ("train", "tutorial", "--seed", "7", *FAST, *GRAPH)
    process = _console_script(*arguments)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()  # a closed pipe does not end the training
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 0
    assert run(*arguments)[0] == 0
    first, second = _runs()
    assert first.info.status == second.info.status == "FINISHED"
    assert_same_state(last_state(first), last_state(second))


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_real_process_with_130_and_a_killed_run(number: signal.Signals) -> None:
    process = _console_script(
        "train", "tutorial", *FAST, "--set", "training.num_iterations=1_000_000_000"
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("iteration"):
            break
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"interrupted by {number.name}" in err
    assert "Traceback" not in err
    assert _runs()[0].info.status == "KILLED"
