from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit.analysis.policy_evaluation import evaluate
from dqnkit.config import loading
from dqnkit.errors import (
    ArgumentError,
    PolicyError,
    TrackingError,
    UnsupportedEnvironmentError,
)
from dqnkit.events import EpisodesPlayed, Event, Warned
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunStore
from tests.runs import LEAN, record


def _run(reference: str = "latest") -> RecordedRun:
    return find_run(RunStore(locate_store()), reference)


def _artifact(path: str) -> Path:
    (found,) = Path("mlruns/artifacts").glob(f"*/*/artifacts/{path}")
    return found


def test_a_solved_policy_is_evaluated_and_recorded() -> None:
    record(weights=LEAN, with_policy=True, finals=[9.0, 9.0], curve={0: [1.0], 100: [9.0]})
    result = evaluate("latest", 40, baseline="random")

    assert result.trained.returns == (500.0,) * 40
    assert result.trained.lengths == (500,) * 40
    assert result.random is not None
    assert 15 < result.random.summary.mean < 30
    assert result.difference is not None
    assert 470 < result.difference.low <= result.difference.value <= result.difference.high < 490
    assert result.problems == []

    run = _run()
    expected = {
        "final/return_mean": 500.0,
        "final/return_std": 0.0,
        "final/return_min": 500.0,
        "final/return_max": 500.0,
        "final/return_median": 500.0,
        "final/return_iqm": 500.0,
        "final/return_ci_low": 500.0,
        "final/return_ci_high": 500.0,
        "final/length_mean": 500.0,
        "final/episodes": 40.0,
        "final/random/episodes": 40.0,
        "final/random/return_iqm": result.random.summary.iqm,
        "final/difference": result.difference.value,
        "final/difference_ci_low": result.difference.low,
    }
    assert expected.items() <= run.metrics.items()
    assert 0 < run.metrics["final/seconds"] < 60
    document = json.loads(_artifact("evaluation.json").read_text(encoding="utf-8"))
    assert [each["env_steps"] for each in document["evaluations"]] == [0, 100]
    assert document["final"]["returns"] == [500.0] * 40
    assert (document["final"]["env_steps"], document["final"]["seed"]) == (5_000, 0)
    assert document["random"]["returns"] == list(result.random.returns)
    assert _artifact("final/returns.png").read_bytes().startswith(b"\x89PNG")
    note = run.tags["mlflow.note.content"]
    assert note.startswith("**About it.**")
    assert "| trained | 40 | 500.0" in note
    assert "| random | 40 |" in note


def test_a_later_evaluation_replaces_an_earlier_one() -> None:
    record(weights=LEAN, with_policy=True)
    evaluate("latest", 5, baseline="random")
    assert evaluate("latest", 7, seed=1).problems == []
    run = _run()
    assert run.metrics["final/episodes"] == 7
    # The first evaluation's baseline does not belong to these episodes.
    assert np.isnan(run.metrics["final/random/return_iqm"])
    assert np.isnan(run.metrics["final/difference"])
    assert run.tags["mlflow.note.content"].count("Evaluated again") == 1
    document = json.loads(_artifact("evaluation.json").read_text(encoding="utf-8"))
    assert "random" not in document
    assert len(document["final"]["returns"]) == 7


def test_a_score_over_fewer_episodes_than_before_is_reported() -> None:
    record(weights=LEAN, with_policy=True, finals=[9.0] * 30, curve={0: [1.0]})
    result = evaluate("latest", 3)
    (problem,) = result.problems
    assert "now based on 3 episodes instead of 30" in problem
    assert result.is_recorded
    assert _run().score == 500.0


def test_a_copied_store_has_its_own_artifacts() -> None:
    record(weights=LEAN, with_policy=True, finals=[9.0], curve={0: [1.0]})
    shutil.copytree("mlruns", "copy")
    before = _artifact("evaluation.json").read_bytes()
    assert evaluate("latest", 3, tracking_uri="copy").problems == []
    assert _artifact("evaluation.json").read_bytes() == before
    (copied,) = Path("copy/artifacts").glob("*/*/artifacts/evaluation.json")
    assert json.loads(copied.read_text(encoding="utf-8"))["final"]["returns"] == [500.0] * 3


def test_a_moved_store_works_at_its_new_place() -> None:
    record(weights=LEAN, with_policy=True)
    Path("mlruns").rename("moved")
    assert evaluate("latest", 3, tracking_uri="moved").problems == []
    assert list(Path("moved/artifacts").glob("*/*/artifacts/final/returns.png"))
    assert not Path("mlruns").exists()


def test_a_store_without_its_artifacts_names_their_folder() -> None:
    record(weights=LEAN, with_policy=True)
    Path("elsewhere").mkdir()
    Path("mlruns/mlflow.db").rename("elsewhere/mlflow.db")
    shutil.rmtree("mlruns")
    with pytest.raises(TrackingError, match=r"should be in .*elsewhere/artifacts.* moved without"):
        evaluate("latest", 3, tracking_uri="elsewhere")


def test_the_seed_determines_the_episodes_in_both_loops() -> None:
    for loop in ("graph", "host"):
        config = loading.default_config(
            loop, ["network.fc_layer_params=[]", f"training.loop={loop}"]
        )
        record(config, name=loop, weights=-LEAN, with_policy=True)
        first, again, other = (evaluate(loop, 25, seed=seed).trained for seed in (0, 0, 1))
        assert first.returns == again.returns
        assert first.returns != other.returns
        assert len(set(first.returns)) > 1
        assert first.returns == tuple(map(float, first.lengths))


def test_episodes_are_played_with_the_wrappers_of_evaluation() -> None:
    config = loading.default_config(
        "walk",
        [
            "env.id=tests.environments:Corridor-v0",
            "env.wrappers=[tests.environments.Doubled]",
            "evaluation.wrappers=[]",
            "network.fc_layer_params=[]",
        ],
    )
    record(config, with_policy=True)
    result = evaluate("latest", 13, baseline="random")  # more than one batch, and not a whole one
    assert result.trained.returns == (50.0,) * 13
    assert result.random is not None
    assert result.random.returns == (50.0,) * 13
    assert result.difference == (0.0, 0.0, 0.0)


def test_a_policy_folder_needs_no_store() -> None:
    """No store is made in the folder of another process."""
    Path("elsewhere").mkdir()
    record(weights=LEAN, with_policy=True)
    policy = _artifact("policy").rename(Path.cwd() / "elsewhere/my-policy")
    code = f"""
import dqnkit
result = dqnkit.evaluate({str(policy)!r}, 3)
assert result.run is None
assert result.trained.returns == (500.0,) * 3, result
"""
    Path("empty").mkdir()
    subprocess.run([sys.executable, "-c", code], check=True, cwd="empty")
    assert list(Path("empty").iterdir()) == []


def test_an_evaluation_is_returned_even_if_it_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(weights=LEAN, with_policy=True)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlflow.MlflowClient.log_batch", full)
    result = evaluate("latest", 3)
    assert result.trained.summary.mean == 500.0
    (problem,) = result.problems
    assert "No space left" in problem
    assert not result.is_recorded


def test_without_a_store_nothing_is_recorded() -> None:
    record(weights=LEAN, with_policy=True, finals=[9.0], curve={0: [1.0]})
    folder = str(_artifact("policy"))
    result = evaluate(folder, 3, tracking_uri=None)
    assert result.trained.returns == (500.0,) * 3
    assert (result.run, result.label, result.problems) == (None, folder, [])
    assert not result.is_recorded
    assert _run().score == 9.0
    with pytest.raises(ArgumentError, match="tracking_uri=None: the run 'latest' is in a store"):
        evaluate("latest", 3, tracking_uri=None)


def test_an_evaluation_makes_a_figure_and_a_json_document() -> None:
    record(weights=LEAN, with_policy=True)
    result = evaluate("latest", 5, baseline="random")
    (axes,) = result.make_figure().axes
    assert axes.get_title() == "a-run (CartPole-v1)"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label.partition(":")[0] for label in labels] == ["trained", "random"]
    document = json.loads(json.dumps(result.as_dict()))
    assert (document["policy"], document["env"], document["seed"]) == ("a-run", "CartPole-v1", 0)
    assert document["trained"]["mean"] == document["trained"]["length_max"] == 500.0
    assert document["random"]["n"] == 5
    assert document["difference"]["value"] == result.difference.value  # type: ignore[union-attr]
    assert document["returns"] == [500.0] * 5
    assert set(evaluate("latest", 5).samples) == {"trained"}


@pytest.mark.parametrize("episodes", [0, -1, 10_001])
def test_a_wrong_number_of_episodes_is_refused_first(episodes: int) -> None:
    with pytest.raises(ArgumentError, match=f"episodes={episodes}: expected .* 1 to 10,000"):
        evaluate("whatever", episodes)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_wrong_seed_is_refused_first(seed: int) -> None:
    with pytest.raises(ArgumentError, match=f"seed={seed}: expected a number from 0"):
        evaluate("whatever", seed=seed)


def test_an_environment_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    record(with_policy=True)
    path = _artifact("policy/artifacts/config.yaml")
    text = path.read_text(encoding="utf-8").replace("CartPole-v1", "no_such_module:Gone-v0")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnsupportedEnvironmentError, match="no_such_module"):
        evaluate("latest", 3)


def test_a_policy_that_no_longer_fits_its_environment_is_an_error() -> None:
    record(with_policy=True)
    path = _artifact("policy/artifacts/config.yaml")
    text = path.read_text(encoding="utf-8").replace("CartPole-v1", "Acrobot-v1")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match="the environment has changed since"):
        evaluate("latest", 3)


def test_a_damaged_configuration_is_an_error() -> None:
    record(with_policy=True)
    _artifact("policy/artifacts/config.yaml").write_text("env: [", encoding="utf-8")
    with pytest.raises(PolicyError, match="configuration cannot be used"):
        evaluate("latest", 3)


def test_an_evaluation_json_that_cannot_be_read_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(weights=LEAN, with_policy=True, finals=[1.0], curve={0: [1.0]})
    before = _artifact("evaluation.json").read_bytes()
    fetch = RunStore.fetch

    def fail(self: RunStore, run: RecordedRun, path: str, into: Path) -> Path:
        if path == "evaluation.json":
            raise TrackingError("the server does not answer")
        return fetch(self, run, path, into)

    monkeypatch.setattr(RunStore, "fetch", fail)
    (problem,) = evaluate("latest", 3).problems
    assert "evaluation.json stays as it was: the server does not answer" in problem
    assert _artifact("evaluation.json").read_bytes() == before
    assert _run().metrics["final/episodes"] == 3


def test_a_name_is_not_drawn_as_a_formula() -> None:
    record(name=r"a$\foo$b", weights=LEAN, with_policy=True)
    assert evaluate("latest", 3).problems == []


def test_a_damaged_evaluation_json_is_replaced() -> None:
    record(weights=LEAN, with_policy=True, finals=[1.0], curve={0: [1.0]})
    _artifact("evaluation.json").write_text("{", encoding="utf-8")
    assert evaluate("latest", 3).problems == []
    document = json.loads(_artifact("evaluation.json").read_text(encoding="utf-8"))
    assert document["final"]["returns"] == [500.0] * 3


def test_a_listener_receives_each_batch_and_the_problems() -> None:
    record(weights=LEAN, with_policy=True, finals=[9.0] * 50)
    events: list[Event] = []
    result = evaluate("latest", 20, baseline="random", listener=events.append)
    assert events == [
        EpisodesPlayed(("trained",), 20, 20),
        EpisodesPlayed(("random",), 20, 20),
        *map(Warned, result.problems),
    ]
    assert len(result.problems) == 1
