from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dqnkit.analysis.run_summary import Difference, summarize
from dqnkit.config import loading
from dqnkit.errors import ConfigError
from dqnkit.tracking.names import RunKind, Tag
from tests.runs import record


def test_a_run_differs_from_the_experiment_of_its_name() -> None:
    changes = ["optimizer.learning_rate=0.5", "training.seed=7", "tracking.tags.a=b"]
    run_id = record(loading.load("cartpole", changes), finals=[1.0, 2.0], curve={0: [1.0]})
    summary = summarize("latest")
    assert (summary.run.id, summary.preset) == (run_id, "cartpole")
    rate = loading.load("cartpole").optimizer.learning_rate
    # Its network was chosen for the environment, and a seed and tags change nothing.
    assert summary.differences == {"optimizer.learning_rate": Difference("0.5", str(rate))}
    assert summary.files == ("evaluation.json",)
    document = summary.as_dict()
    assert document["differences"]["optimizer.learning_rate"]["value"] == "0.5"
    assert (document["id"], document["problems"]) == (run_id, [])


@pytest.mark.parametrize(("env", "preset"), [("Acrobot-v1", "acrobot"), ("tests.odd:Odd-v0", "")])
def test_other_runs_are_compared_with_their_environments_experiment_or_the_defaults(
    env: str, preset: str
) -> None:
    record(loading.default_config("mine", [f"env.id={env}", "agent.gamma=0.5"]))
    summary = summarize("latest")
    assert summary.preset == preset
    assert summary.differences["agent.gamma"].value == "0.5"


def test_a_group_is_found_by_its_name() -> None:
    record(name="group", tags={Tag.KIND: RunKind.SEEDS})
    record(name="single")
    assert summarize("group").run.name == "group"
    with pytest.raises(ConfigError, match="there is no run 'nobody'"):
        summarize("nobody")


def test_files_that_are_gone_are_told() -> None:
    record(finals=[1.0], curve={0: [1.0]})
    shutil.rmtree(Path("mlruns/artifacts"))
    summary = summarize("latest")
    assert summary.files == ()
    assert "does not exist" in summary.problem


def test_a_name_that_a_comparison_shares_is_that_of_the_training() -> None:
    run_id = record(name="one")
    comparison = record(name="one", tags={Tag.KIND: RunKind.COMPARISON})
    assert summarize("one").run.id == run_id
    assert summarize(comparison[:12]).run.id == comparison
