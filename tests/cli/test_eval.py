from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, assert_misused, record_solved
from tests.runs import record


def test_a_table_and_the_run_that_records_it_are_printed(run: Run) -> None:
    run_id = record_solved()
    code, out, err = run("eval", "latest", "--episodes", "30", "--baseline", "random")
    assert (code, err) == (0, "")
    assert "solved · CartPole-v1 · seed 0" in out
    assert "500.0 (500.0 to 500.0)" in out
    trained, random = (line for line in out.splitlines() if line[:7] in {"trained", "random "})
    assert trained.split()[1] == random.split()[1] == "30"
    assert "difference of the IQMs: 4" in out
    assert f"recorded in the run solved ({run_id[:8]}) under final/" in out


def test_fewer_episodes_than_before_are_recorded_with_a_warning(run: Run) -> None:
    run_id = record_solved()
    code, out, err = run("eval", "latest", "--episodes", "1")
    assert code == 0
    assert err.startswith("warning: the run's score is now based on 1 episodes instead of 2")
    assert f"recorded in the run solved ({run_id[:8]}) under final/" in out


def test_the_policy_of_a_folder_is_not_recorded(run: Run) -> None:
    record_solved()
    (folder,) = Path("mlruns/artifacts").glob("*/*/artifacts/policy")
    code, out, _ = run("eval", str(folder), "--episodes", "1")
    assert code == 0
    assert "not recorded: the policy belongs to no run of the store" in out


def test_json_is_one_document(run: Run) -> None:
    run_id = record_solved()
    code, out, err = run("eval", run_id[:10], "--episodes", "4", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["run_id"] == run_id
    assert document["returns"] == [500.0] * 4
    assert document["random"] is None
    assert document["trained"]["n"] == 4


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["RUN"]),
        (["nothing"], ["no run 'nothing'", "solved ("]),
        (["latest", "--episodes", "many"], ["--episodes", "integer"]),
        (["latest", "--baseline", "expert"], ["--baseline", "random"]),
        (["./nowhere"], ["'nowhere'", "no such folder"]),
        (["models:/nothing@champion"], ["nothing", "registered models: none"]),
        (["unfinished"], ["unfinished", "has no policy"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    record(name="unfinished", status=None)
    record_solved()
    before = sorted(Path.cwd().rglob("*"))
    assert_misused(run("eval", *arguments), *parts)
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_damaged_policy_is_an_external_fault(run: Run) -> None:
    record_solved()
    (path,) = Path("mlruns/artifacts").rglob("saved_model.pb")
    path.write_bytes(b"torn")
    code, out, err = run("eval", "latest")
    assert (code, out) == (1, "")
    assert "cannot be read" in err
    assert "Traceback" not in err
