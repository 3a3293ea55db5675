from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient

from dqnkit.config import loading
from dqnkit.events import RunStatus
from dqnkit.tracking.location import locate_store
from tests.cli.conftest import Run, assert_misused
from tests.runs import record


def _lines(text: str) -> dict[str, str]:
    """Return the text of each line by its label; lines without one belong to that above."""
    lines: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        label = line[:12].strip() or label
        lines[label] = f"{lines[label]}; {line[12:]}" if label in lines else line[12:]
    return lines


def test_a_run_is_shown_with_scores_settings_files_and_what_next(run: Run) -> None:
    config = loading.load("cartpole", ["optimizer.learning_rate=0.5"])
    run_id = record(config, name="mine", finals=[1.0, 2.0, 3.0], curve={0: [1.0]})
    code, out, err = run("show", "mine")
    assert (code, err) == (0, "")
    lines = _lines(out)
    assert lines["run"] == f"mine ({run_id})"
    assert lines["experiment"] == "cartpole · CartPole-v1"
    assert lines["status"].startswith("finished, ")
    assert lines["score"] == "2 (1 to 3)  (best policy, IQM)"
    assert lines["settings"].startswith("optimizer.learning_rate=0.5  (experiment cartpole: ")
    assert lines["files"] == "evaluation.json"
    assert lines["next"] == f"dqnkit ui {run_id[:8]}"  # there is no policy to play
    _, latest, _ = run("show")
    assert latest.splitlines()[0] == out.splitlines()[0]


def test_a_run_with_a_policy_and_one_that_was_interrupted_lead_on(run: Run) -> None:
    played = record(name="played", with_policy=True)
    _, out, _ = run("show", "played")
    assert _lines(out)["next"].split("; ") == [
        f"dqnkit {command} {played[:8]}" for command in ("render", "eval", "ui")
    ]
    killed = record(loading.load("cartpole"), name="killed", status=RunStatus.KILLED)
    _, out, _ = run("show", "killed")
    assert _lines(out)["next"].startswith(f"dqnkit train --resume {killed[:8]}; ")
    assert _lines(out)["settings"] == "those of the experiment cartpole"


def test_json_is_one_document(run: Run) -> None:
    record(name="mine", finals=[1.0, 2.0], curve={0: [1.0]})
    _, out, err = run("show", "mine", "--json")
    assert err == ""
    document = json.loads(out)
    assert (document["name"], document["files"]) == ("mine", ["evaluation.json"])


@pytest.mark.parametrize("reference", ["nobody", "latest:nothing"])
def test_a_wrong_reference_is_one_message(run: Run, reference: str) -> None:
    record(name="mine")
    assert_misused(run("show", reference), reference.rpartition(":")[2])


def test_a_study_is_shown_with_its_trials_and_its_winner(run: Run) -> None:
    study = record(name="mine", tags={"dqnkit.kind": "study", "dqnkit.study": "mine"})
    client = MlflowClient(locate_store().uri)
    found = {"complete": 6, "pruned": 4, "failed": 0, "best_value": 40.0}
    found |= {"confirmed_iqm": 30.0, "confirmed_ci_low": 20.0, "confirmed_ci_high": 35.0}
    for name, value in found.items():
        client.log_metric(study, f"study/{name}", value)
    _, out, _ = run("show", "mine")
    lines = _lines(out)
    assert lines["trials"] == "6 complete, 4 pruned, 0 failed"
    assert lines["best"].startswith("40.0  (")
    assert lines["winner"].startswith("30.0 (20.0 to 35.0)  (")
    assert lines["next"].split("; ") == [
        "dqnkit ui --study mine",
        "dqnkit compare --study mine",
        "dqnkit train --from-study mine",
    ]
