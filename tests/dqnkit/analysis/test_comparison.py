from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from dqnkit.analysis.comparing import compare
from dqnkit.analysis.groups import Evaluations, Group, grouped
from dqnkit.analysis.listing import list_runs
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError
from dqnkit.evaluation.aggregates import bootstrap_interval, interquartile_mean
from dqnkit.events import RunStatus
from dqnkit.tracking import location
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.store import ANY, RunFilter, RunStore
from tests.runs import record

RNG = np.random.default_rng(0)


def _config(seed: int, learning_rate: float, **more: Any) -> Config:
    assignments = [f"training.seed={seed}", f"optimizer.learning_rate={learning_rate}"]
    assignments += [f"{key}={value}" for key, value in more.items()]
    return loading.default_config("pooled", assignments)


def _run(number: int, status: str = "FINISHED", **params: Any) -> RecordedRun:
    texts = {key.replace("__", "."): str(value) for key, value in params.items()}
    return RecordedRun(f"id{number}", f"run-{number}", "x", status, 0.0, 1.0, texts, {}, {})


def _evaluated(*finals: float, steps: tuple[int, ...] = (0, 10)) -> Evaluations:
    curve = {step: np.array([1.0 + step, 3.0 + step]) for step in steps}
    return Evaluations(curve, np.array(finals), float(np.mean(finals)) if finals else None)


def _grouped(*runs: RecordedRun) -> list[list[str]]:
    groups = grouped(runs, {run.id: _evaluated(1.0) for run in runs})
    return [[run.name for run in group.runs] for group in groups]


def test_runs_that_differ_in_nothing_but_the_seed_are_pooled() -> None:
    runs = [
        _run(0, training__seed=0, agent__gamma=0.9, description="a"),
        _run(1, training__seed=1, agent__gamma=0.9, description="b"),
        _run(2, training__seed=1, agent__gamma=0.8),
    ]
    assert _grouped(*runs) == [["run-0", "run-1"], ["run-2"]]
    groups = grouped(runs, {run.id: _evaluated(1.0) for run in runs})
    assert [dict(group.params) for group in groups] == [
        {"agent.gamma": "0.9"},
        {"agent.gamma": "0.8"},
    ]
    assert [group.label for group in groups] == ["A run-0 and 1 more seed", "B run-2"]
    assert [group.legend for group in groups] == ["A gamma=0.9 (2 seeds)", "B gamma=0.8 (1 seed)"]


def test_the_same_seed_twice_counts_once_and_unfinished_runs_stand_alone() -> None:
    runs = [
        _run(0, training__seed=0),
        _run(1, training__seed=0),
        _run(2, training__seed=1),
        _run(3, status="KILLED", training__seed=2),
        _run(4, status="RUNNING", training__seed=3),
    ]
    assert _grouped(*runs) == [["run-1", "run-2"], ["run-3"], ["run-4"]]


def test_a_parameter_that_only_some_runs_have_is_a_difference() -> None:
    groups = grouped(
        [_run(0, a__b=1), _run(1, a__b=1, a__c=2)], {"id0": _evaluated(), "id1": _evaluated()}
    )
    assert [dict(group.params) for group in groups] == [{"a.c": ""}, {"a.c": "2"}]


def test_tags_and_descriptions_make_no_difference_and_versions_do() -> None:
    def run(number: int, version: str, tags: str) -> RecordedRun:
        params = {"training__seed": number, "tracking__tags": tags, "description": tags}
        return replace(_run(number, **params), tags={"dqnkit.version": version})

    runs = [run(0, "1", "{}"), run(1, "1", "{team: blue}"), run(2, "2", "{}")]
    assert _grouped(*runs) == [["run-0", "run-1"], ["run-2"]]
    groups = grouped(runs, {each.id: _evaluated(1.0) for each in runs})
    assert [dict(group.params) for group in groups] == [
        {"dqnkit.version": "1"},
        {"dqnkit.version": "2"},
    ]


def test_a_score_says_how_many_seeds_it_rests_on() -> None:
    runs = (_run(0), _run(1), _run(2))
    some = Group(runs, (_evaluated(1.0), _evaluated(), _evaluated(3.0)), "A")
    assert some.sample_of == "2 of 3 seeds"
    np.testing.assert_array_equal(some.sample, [1.0, 3.0])
    one = Group(runs, (_evaluated(1.0), _evaluated(), _evaluated()), "A")
    assert (one.sample_of, one.score) == ("1 of 3 seeds", None)


def test_the_score_of_several_seeds_is_of_their_means_and_of_one_seed_of_its_episodes() -> None:
    finals = RNG.normal(size=(5, 20))
    several = Group(
        tuple(_run(i) for i in range(5)), tuple(_evaluated(*row) for row in finals), "A"
    )
    means = finals.mean(axis=1)
    assert several.sample_of == "5 seeds"
    assert several.score == (
        pytest.approx(float(interquartile_mean(means))),
        *map(pytest.approx, bootstrap_interval(means)),
    )
    single = Group((_run(0),), (_evaluated(*finals[0]),), "B")
    assert single.sample_of == "20 episodes of 1 seed"
    assert single.score is not None
    assert single.score.value == pytest.approx(float(interquartile_mean(finals[0])))
    assert Group((_run(0),), (_evaluated(),), "C").score is None


def test_a_curve_stands_at_the_steps_that_all_runs_share() -> None:
    group = Group(
        (_run(0), _run(1)), (_evaluated(steps=(0, 10, 20)), _evaluated(steps=(10, 20, 30))), "A"
    )
    assert group.curve is not None
    np.testing.assert_array_equal(group.curve.steps, [10, 20])
    np.testing.assert_array_equal(group.curve.middle, [12.0, 22.0])  # both means are the same
    np.testing.assert_array_equal(group.curve.low, group.curve.high)
    apart = Group((_run(0), _run(1)), (_evaluated(steps=(0,)), _evaluated(steps=(1,))), "A")
    assert apart.curve is None


def _record_pools() -> dict[float, np.ndarray]:
    """Three seeds of two learning rates; the final returns of each."""
    finals = {0.001: RNG.normal(100, 5, (3, 8)), 0.01: RNG.normal(103, 5, (3, 8))}
    for rate, rows in finals.items():
        for seed, row in enumerate(rows):
            curve = {0: [9.0, 11.0], 100: [50.0 + seed, 52.0], 200: row.tolist()}
            record(_config(seed, rate), name=f"r{rate}-s{seed}", finals=row.tolist(), curve=curve)
    return finals


def test_two_pools_are_compared_drawn_and_recorded() -> None:
    finals = _record_pools()
    result = compare(experiment="pooled", output=Path("out"))

    assert [len(group.runs) for group in result.groups] == [3, 3]
    assert [group.params for group in result.groups] == [
        {"optimizer.learning_rate": "0.001"},
        {"optimizer.learning_rate": "0.01"},
    ]
    means = [rows.mean(axis=1) for rows in finals.values()]
    for group, expected in zip(result.groups, means, strict=True):
        assert group.score is not None
        assert group.score.value == pytest.approx(float(interquartile_mean(expected)))
        assert group.median("time/steps_per_second") == 1000.0
        assert group.curve is not None
        np.testing.assert_array_equal(group.curve.steps, [0, 100, 200])
        assert (group.curve.low <= group.curve.middle).all()
        assert (group.curve.middle <= group.curve.high).all()
    assert result.improvement is not None
    assert result.improvement.value == pytest.approx(mannwhitneyu(*means).statistic / 9)
    assert result.improvement_over == "3 and 3 seeds"
    assert result.problems == ()

    names = ["comparison.json", "learning_curves.html", "learning_curves.png"]
    assert [path.name for path in result.files] == names
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert Path("out/learning_curves.png").read_bytes().startswith(b"\x89PNG")
    page = Path("out/learning_curves.html").read_text(encoding="utf-8")
    assert "A learning_rate=0.001 (3 seeds)" in page
    assert len(page) > 1_000_000  # Plotly's own code is in it
    assert "cdn.plot.ly" not in page.partition("plotly.js v")[0]
    document = json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))
    assert document["groups"][0]["score"]["value"] == pytest.approx(result.groups[0].score.value)  # type: ignore[union-attr]

    reader = RunStore(location.locate_store())
    kept = reader.client.get_run(result.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.tags["dqnkit.kind"] == "comparison"
    note = kept.data.tags["mlflow.note.content"]
    assert "| A r0.001-s0 and 2 more seeds | 3 seeds | 0.001 |" in note
    assert {each.path for each in reader.client.list_artifacts(result.run_id)} == set(names)
    # A comparison is no run of training.
    assert len(reader.runs()) == 6


def test_single_seeds_are_compared_by_their_episodes() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0, 2.0, 3.0], curve={0: [1.0]})
    record(_config(0, 0.2), name="two", finals=[2.0, 9.0], curve={0: [1.0]})
    result = compare(["one", "two", "one"])
    assert result.problems == ()
    assert [group.label for group in result.groups] == ["A one", "B two"]
    assert result.improvement is not None
    assert result.improvement.value == pytest.approx(0.5 * 1 / 6 + 1 / 6)
    assert result.improvement_over == "3 and 2 episodes"


def test_seeds_and_episodes_are_not_set_against_each_other() -> None:
    for seed in (0, 1):
        row = [float(seed), 2.0]
        record(_config(seed, 0.1), name=f"r{seed}", finals=row, curve={0: [1.0]})
    record(_config(0, 0.2), name="alone", finals=[5.0, 6.0], curve={0: [1.0]})
    result = compare(["r0", "r1", "alone"])
    assert result.improvement is None
    (problem,) = result.problems
    assert "one has several seeds and the other one" in problem


def test_evaluations_that_cannot_be_read_are_told_and_their_mean_still_counts() -> None:
    for seed in (0, 1):
        row = [1.0, 2.0, 3.0 + seed]
        record(_config(seed, 0.1), name=f"r{seed}", finals=row, curve={0: [1.0], 9: row})
    torn = next(iter(Path("mlruns/artifacts").rglob("evaluation.json")))
    torn.write_text("{", encoding="utf-8")
    result = compare(experiment="pooled")
    (problem,) = result.problems
    assert "its evaluations cannot be read" in problem
    (group,) = result.groups
    assert group.sample_of == "2 seeds"
    np.testing.assert_allclose(sorted(group.sample), [2.0, 7 / 3])
    assert group.curve is not None
    np.testing.assert_array_equal(group.curve.steps, [0, 9])


def test_pictures_of_an_earlier_comparison_do_not_stay() -> None:
    record(_config(0, 0.1), name="with", finals=[1.0], curve={0: [1.0]})
    record(_config(0, 0.2), name="without", status=RunStatus.FAILED)
    assert len(compare(["with"], output=Path("out")).files) == 3
    Path("out/mine.txt").touch()
    assert [path.name for path in compare(["without"], output=Path("out")).files] == [
        "comparison.json"
    ]
    assert sorted(path.name for path in Path("out").iterdir()) == ["comparison.json", "mine.txt"]


def test_names_are_no_formulas() -> None:
    record(_config(0, 0.1), name=r"a$\foo$b", finals=[1.0], curve={0: [1.0]})
    assert len(compare(["latest"]).files) == 3


def test_who_is_left_out_is_told() -> None:
    record(_config(0, 0.1), name="first", finals=[1.0], curve={0: [1.0]})
    record(_config(0, 0.1), name="again", finals=[2.0], curve={0: [1.0]})
    result = compare(["first", "again"])
    assert [group.label for group in result.groups] == ["A again"]
    (problem,) = result.problems
    assert problem.startswith("first (")
    assert "left out: a later run has the same settings and the same seed" in problem


def test_a_run_that_has_not_ended_is_shown_with_what_it_has() -> None:
    record(_config(0, 0.1), name="ended", finals=[1.0, 2.0], curve={0: [1.0], 50: [2.0]})
    record(_config(0, 0.2), name="failed", curve={0: [1.0], 50: [7.0]}, status=RunStatus.FAILED)
    result = compare(["ended", "failed"])
    failed = result.groups[1]
    assert (failed.status, failed.score, failed.sample_of) == (
        "FAILED",
        None,
        "0 episodes of 1 seed",
    )
    assert failed.curve is not None
    np.testing.assert_array_equal(failed.curve.middle, [1.0, 7.0])
    assert result.improvement is None


def test_different_environments_are_told_and_not_measured_against_each_other() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0], curve={0: [1.0]})
    record(
        _config(0, 0.1, **{"env.id": "Acrobot-v1"}), name="two", finals=[-9.0], curve={0: [-9.0]}
    )
    result = compare(["one", "two"])
    assert result.improvement is None
    (problem,) = result.problems
    assert problem.startswith("returns of different environments (Acrobot-v1, CartPole-v1) have")


def test_a_study_is_compared_by_its_name() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0], tags={"dqnkit.study": "s"})
    record(_config(0, 0.2), name="other", finals=[1.0])
    assert [group.label for group in compare(study="s").groups] == ["A one"]


def test_what_cannot_be_compared_is_explained() -> None:
    with pytest.raises(ConfigError, match="name runs, or --experiment or --study"):
        compare()
    with pytest.raises(ConfigError, match="no runs of study 's'"):
        compare(study="s")
    record(_config(0, 0.1), name="one", finals=[1.0])
    with pytest.raises(ConfigError, match="no experiment 'nothing'"):
        compare(experiment="nothing")
    with pytest.raises(ConfigError, match="no run 'two'"):
        compare(["one", "two"])
    Path("in-the-way").touch()
    with pytest.raises(ConfigError, match="--output in-the-way: cannot be written"):
        compare(["one"], output=Path("in-the-way"))
    assert len(RunStore(location.locate_store()).experiments) == 2  # nothing was recorded


def test_a_store_that_takes_nothing_costs_the_record_and_not_the_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(_config(0, 0.1), name="one", finals=[1.0, 2.0], curve={0: [1.0]})

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("read-only")

    monkeypatch.setattr("mlflow.MlflowClient.create_run", refuse)
    result = compare(["one"])
    assert result.groups[0].score is not None
    assert Path("comparison/learning_curves.png").is_file()
    (problem,) = result.problems
    assert "was not recorded" in problem
    assert "train without" not in problem


def test_lists_are_filtered_and_sorted() -> None:
    assert list_runs() == []
    assert not Path("mlruns").exists()
    record(_config(0, 0.1), name="low", finals=[1.0])
    record(_config(1, 0.1), name="high", finals=[9.0], tags={"dqnkit.study": "s"})
    record(_config(2, 0.1), name="none", status=RunStatus.FAILED)
    assert [run.name for run in list_runs()] == ["none", "high", "low"]
    assert [run.name for run in list_runs(sort="final/return_iqm")] == ["high", "low"]
    assert [run.name for run in list_runs(ANY, limit=1)] == ["none"]
    assert [run.name for run in list_runs(RunFilter(study="s"))] == ["high"]
    with pytest.raises(ConfigError, match=r"--sort nothing: no run has.*final/return_iqm"):
        list_runs(sort="nothing")
    with pytest.raises(ConfigError, match='--sort a"b`c: no run'):
        list_runs(sort='a"b`c')
    with pytest.raises(ConfigError, match="--limit 0"):
        list_runs(limit=0)
