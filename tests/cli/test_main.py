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
from tests.cli.conftest import Run
from tests.processes import assert_same_state, last_state

FAST = [
    *("--set", "network.fc_layer_params=[8]", "--set", "training.num_iterations=60"),
    *("--set", "training.initial_collect_steps=20", "--set", "evaluation.eval_interval=30"),
    *("--set", "replay.replay_buffer_max_length=1000", "--set", "evaluation.final_episodes=10"),
]
"""Makes any experiment a matter of seconds."""


def _runs() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(location.locate_store().uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments))


def test_train_leaves_a_finished_run_and_says_where(run: Run) -> None:
    code, out, err = run("train", "tutorial", "--seed", "3", "--name", "my-run", *FAST)
    assert (code, err) == (0, "")
    assert "tutorial · CartPole-v0 · graph loop · seed 3  run my-run" in out
    assert "95 % interval" in out
    assert "dqnkit ui\n" in out
    (record,) = _runs()
    assert (record.info.status, record.info.run_name) == ("FINISHED", "my-run")
    assert record.info.run_id in out
    assert record.data.params["training.seed"] == "3"
    assert record.data.tags["dqnkit.version"] == main.__version__


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


def test_what_an_environment_prints_does_not_come_between_the_document(
    capfd: pytest.CaptureFixture[str],
) -> None:
    tracking = ("--set", "tracking.enabled=false")
    code = main.run(["train", "--json", "--env", "tests.environments:Loud-v0", *tracking, *FAST])
    captured = capfd.readouterr()
    assert code == 0
    assert json.loads(captured.out)["status"] == "FINISHED"
    assert "said by Python" in captured.err
    assert "said by a child" in captured.err


def test_quiet_says_nothing(run: Run) -> None:
    tracking = ("--set", "tracking.enabled=false")
    assert run("train", "tutorial", "-q", *tracking, *FAST) == (0, "", "")
    assert not Path("mlruns").exists()


def test_the_store_can_be_named(run: Run) -> None:
    code, out, _ = run("train", "tutorial", "--tracking-uri", "my-store", *FAST)
    assert code == 0
    assert f"dqnkit ui --tracking-uri sqlite:///{Path('my-store/mlflow.db').resolve()}" in out
    assert Path("my-store/mlflow.db").is_file()
    assert not Path("mlruns").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "cartpol"], ["'cartpol'", "did you mean 'cartpole'"]),
        (["train", "missing.yaml"], ["'missing.yaml'", "Committed experiments"]),
        (["train", "--env", "CartPole-v7"], ["'CartPole-v7'", "did you mean"]),
        (["train", "--env", "Pendulum-v1"], ["Box(-2.0, 2.0", "Discrete"]),
        (["train", "--set", "agent.gama=1"], ["agent.gama", "did you mean 'gamma'"]),
        (["train", "--set", "agent.gamma=2"], ["agent.gamma", "2", "less than or equal to 1"]),
        (["train", "--seed", "-4"], ["training.seed", "-4"]),
        (["train", "--seed", "many"], ["--seed", "integer"]),
        (["train", "--no-such-option"], ["--no-such-option"]),
        (["trian"], ["trian"]),
        (["train", "--tracking-uri", "ftp://x"], ["ftp"]),
        (["experiments", "nothing"], ["'nothing'"]),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(
    run: Run, arguments: list[str], parts: list[str]
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err
    assert "Traceback" not in err
    assert not Path("mlruns/mlflow.db").exists()


def test_a_yaml_that_does_not_parse_is_one_message(run: Run) -> None:
    Path("bad.yaml").write_text("agent: [", encoding="utf-8")
    code, _, err = run("train", "bad.yaml")
    assert code == 2
    assert "bad.yaml: is not valid YAML" in err


def test_a_folder_that_cannot_be_written_is_one_message(run: Run) -> None:
    Path("mlruns").write_text("in the way", encoding="utf-8")
    code, _, err = run("train", "tutorial", *FAST)
    assert code == 2
    assert "cannot be written" in err
    assert "--tracking-uri" in err


def test_a_tracking_server_that_does_not_answer_is_told_and_costs_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.5)
    place = ("--tracking-uri", "http://127.0.0.1:9")
    code, out, err = run("train", "tutorial", *place, *FAST)
    assert code == 0
    assert "http://127.0.0.1:9 does not answer: the run is kept in" in err
    assert "sync --tracking-uri http://127.0.0.1:9` sends them" in err
    assert "Traceback" not in err
    assert "final" in out

    code, _, err = run("sync", *place)
    assert code == 1
    assert "Is it running?" in err
    code, out, err = run("train", "--seeds", "2", "tutorial", *place, *FAST)
    assert code == 1
    assert "cannot be used" in err


def test_a_diverging_run_is_failed_in_the_record(run: Run) -> None:
    diverging = ("--set", "optimizer.learning_rate=1e30", "--set", "training.num_iterations=5000")
    code, _, err = run("train", "tutorial", *FAST, *diverging)
    assert code == 1
    assert "learning_rate" in err
    assert _runs()[0].info.status == "FAILED"


def test_a_bug_is_said_to_be_one_and_shown_on_request(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[str]:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("dqnkit.config.loading.names", broken)
    code, _, err = run("experiments")
    assert code == 1
    assert "ZeroDivisionError: inside" in err
    assert "Traceback" not in err
    code, _, err = run("experiments", "--traceback")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["train", "-h"], ["--version"]])
def test_help_and_version_are_exit_code_0(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert "dqnkit" in out


def test_experiments_are_listed_and_shown(run: Run) -> None:
    _, out, _ = run("experiments")
    assert "mountain-car" in out
    _, out, _ = run("experiments", "--json")
    assert json.loads(out)["tutorial"]["env"] == "CartPole-v0"
    _, out, _ = run("experiments", "tutorial")
    Path("copy.yaml").write_text(out, encoding="utf-8")
    _, copied, _ = run("experiments", "copy.yaml")
    assert copied == out
    _, out, _ = run("schema")
    assert json.loads(out)["title"] == "Config"


def _console_script(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_reader_who_leaves_does_not_end_the_training() -> None:
    process = _console_script("train", "tutorial", *FAST)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 0
    assert _runs()[0].info.status == "FINISHED"


def test_a_fresh_process_gives_the_same_curve_bit_for_bit_and_no_noise() -> None:
    for _ in range(2):
        process = _console_script("train", "tutorial", "--seed", "7", *FAST)
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    assert_same_state(*(last_state(record) for record in _runs()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
