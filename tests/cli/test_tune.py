from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dqnkit._system import arrays
from dqnkit.tracking import location
from tests import fake_training
from tests.cli.conftest import Run, assert_misused
from tests.runs import make_store

FAST = [
    *("--set", "training.num_iterations=60", "--set", "training.initial_collect_steps=20"),
    *("--set", "evaluation.eval_interval=10", "--set", "evaluation.final_episodes=10"),
    *("--set", "replay.replay_buffer_max_length=1000"),
    *("--set", "search.network.fc_layer_params={type: layers, max_layers: 1, low: 4, high: 8}"),
    *("--set", "search.optimizer.learning_rate={type: float, low: 1e-4, high: 1e-2, log: true}"),
]
"""Makes a search a matter of seconds."""


def _run(run_id: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(location.locate_store().uri).get_run(run_id)


def _last_checkpoint(run_id: str) -> dict[str, Any]:
    folder = Path(_run(run_id).info.artifact_uri.removeprefix("file://"))
    return arrays.load_arrays(folder / "checkpoints" / "last.npz")


WARNING = (
    "warning: search.network.fc_layer_params: the experiment's own value [100, 50] is outside the "
    "search space (1 to 1 layers of 4 to 8, logarithmic units): trial 0 uses another value\n"
)


def test_the_result_is_one_document_or_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_training.install(monkeypatch)
    make_store()
    arguments = ("tune", "tutorial", *FAST, "--study", "mine", "--trials", "3", "--confirm", "2")
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, WARNING)
    document = json.loads(out)
    trials = document["trials"]
    assert trials["complete"] + trials["pruned"] == 3
    assert document["model"] == "models:/tutorial@champion"
    assert document["fresh_seed"] == 6

    # The same again reads all results from the study.
    code, out, _ = run("tune", "--study", "mine", "--trials", "3", "--confirm", "2")
    assert code == 0
    for part in (
        "tutorial · study mine · 2 workers · continues after 3 trials",
        "confirmed IQM (95 % interval)",
        "trial 0 wins, on seeds that the search has not used",
        "models:/tutorial@champion",
        "train --from-study mine --seed 6 --seeds 5",
        "uvx --with optuna optuna-dashboard mlruns/studies/mine.journal",
    ):
        assert part in out
    assert "confirming" not in out
    code, out, err = run("train", "--from-study", "mine", "--seed", "6", "--seeds", "2")
    assert (code, err) == (0, "")
    assert "seeds 6 to 7" in out
    assert "IQM over 2" in out
    result = run("tune", "--study", "mine", "--seeds-per-trial", "2")
    assert_misused(
        result,
        "error: --study mine: this study has another definition",
        "\n  --seeds-per-trial: 1 in the study, 2 here\n",
    )
    code, out, _ = run("tune", "--study", "mine", "--trials", "4", "--quiet")
    assert (code, out) == (0, "")


@pytest.mark.slow
def test_a_search_its_winner_and_new_seeds(run: Run) -> None:
    """Search with real training, repeat the winner, and train it with new seeds."""
    code, out, err = run(
        *(
            "tune",
            "tutorial",
            *FAST,
            "--trials",
            "3",
            "--confirm",
            "1",
            "--json",
            "--study",
            "mine",
        ),
        *("--workers", "2"),
    )
    assert code == 0, err
    document = json.loads(out)
    assert document["trials"]["complete"] + document["trials"]["pruned"] == 3
    (winner,) = document["confirmed"]
    assert winner["n"] == 5
    assert document["model"] == "models:/tutorial@champion"
    assert err == WARNING
    champion = max(
        (_run(run_id) for run_id in _confirming_runs(document["run_id"])),
        key=lambda each: (
            each.data.metrics["final/return_iqm"],
            each.data.metrics["final/return_mean"],
            -int(each.data.params["training.seed"]),
        ),
    )

    code, out, _ = run("train", "--from-study", "mine", "--json")
    assert code == 0
    repeated = json.loads(out)
    first, again = (_last_checkpoint(each) for each in (champion.info.run_id, repeated["run_id"]))
    assert first.keys() == again.keys()
    different = {name for name in first if not (first[name] == again[name]).all()}
    assert all(name.startswith("run/clocks/") for name in different), different

    code, out, _ = run("train", "--from-study", "mine", "--seed", "6", "--seeds", "2")
    assert code == 0
    assert "seeds 6 to 7" in out
    assert "IQM over 2" in out

    code, out, _ = run("eval", "models:/tutorial@champion", "--episodes", "5")
    assert code == 0
    code, out, _ = run("runs", "--study", "mine", "--json")
    assert len(json.loads(out)) == 3


def _confirming_runs(study_run: str) -> list[str]:
    from mlflow import MlflowClient

    client = MlflowClient(location.locate_store().uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    groups = client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{study_run}'")
    kinds = {run.info.run_id: run.data.tags["dqnkit.kind"] for run in groups}
    return [
        each.info.run_id
        for group, kind in kinds.items()
        if kind == "confirmation"
        for each in client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{group}'")
    ]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["tune", "cartpol"], ["'cartpol'", "did you mean 'cartpole'"]),
        (["tune", "--trials", "many"], ["--trials", "integer"]),
        (["tune", "--sampler", "tpp"], ["tpp", "tpe", "grid"]),
        (["tune", "--pruner", "wilcoxon"], ["--pruner wilcoxon", "--seeds-per-trial 1"]),
        (["tune", "--sampler", "grid"], ["--sampler grid", "optimizer.learning_rate"]),
        (
            ["tune", "--set", "search.agent.gama={type: float, low: 0, high: 1}"],
            ["agent.gama", "did you mean 'agent.gamma'"],
        ),
        (["tune", "--set", "search.agent.gamma={type: float, low: 0}"], ["high", "required"]),
        (["tune", "--set", "evaluation.eval_interval=40000"], ["eval_interval=40000", "several"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    assert_misused(run(*arguments), *parts)
    assert not Path("mlruns/mlflow.db").exists()
