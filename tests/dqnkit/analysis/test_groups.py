from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dqnkit.analysis.groups import Evaluations, Group, grouped, pooled_curve
from dqnkit.evaluation.aggregates import bootstrap_interval, interquartile_mean
from dqnkit.tracking.names import Metric, Tag
from dqnkit.tracking.recorded_run import RecordedRun

RNG = np.random.default_rng(0)


def _run(number: int, status: str = "FINISHED", **params: Any) -> RecordedRun:
    texts = {key.replace("__", "."): str(value) for key, value in params.items()}
    return RecordedRun(f"id{number}", f"run-{number}", "x", status, 0.0, 1.0, texts, {}, {})


def _evaluated(*finals: float, steps: tuple[int, ...] = (0, 10)) -> Evaluations:
    curve = {step: np.array([1.0 + step, 3.0 + step]) for step in steps}
    return Evaluations(curve, np.array(finals), float(np.mean(finals)) if finals else None)


def _groups(*runs: RecordedRun) -> tuple[Group, ...]:
    return grouped(runs, {run.id: _evaluated(1.0) for run in runs})


def _names(*runs: RecordedRun) -> list[list[str]]:
    return [[run.name for run in group.runs] for group in _groups(*runs)]


def test_runs_that_differ_only_in_the_seed_are_pooled() -> None:
    runs = [
        _run(0, training__seed=0, agent__gamma=0.9, description="a"),
        _run(1, training__seed=1, agent__gamma=0.9, description="b"),
        _run(2, training__seed=1, agent__gamma=0.8),
    ]
    assert _names(*runs) == [["run-0", "run-1"], ["run-2"]]
    groups = _groups(*runs)
    assert [dict(group.params) for group in groups] == [
        {"agent.gamma": "0.9"},
        {"agent.gamma": "0.8"},
    ]
    assert [group.label for group in groups] == ["A run-0 and 1 more seed", "B run-2"]
    assert [group.legend for group in groups] == ["A gamma=0.9 (2 seeds)", "B gamma=0.8 (1 seed)"]


def test_configurations_of_which_mlflow_has_cut_the_difference_are_not_pooled() -> None:
    cut = {"env__kwargs": "x" * 6_000}
    runs = [
        replace(_run(number, training__seed=0, **cut), tags={Tag.CONFIG: name})
        for number, name in enumerate(["one", "two", "two"])
    ]
    assert _names(*runs) == [["run-0"], ["run-2"]]
    assert [dict(group.params) for group in _groups(*runs)] == [
        {Tag.CONFIG: "one"},
        {Tag.CONFIG: "two"},
    ]
    differing = [
        replace(_run(number, agent__gamma=number), tags={Tag.CONFIG: str(number)})
        for number in (0, 1)
    ]
    assert [dict(group.params) for group in _groups(*differing)] == [
        {"agent.gamma": "0"},
        {"agent.gamma": "1"},
    ]


def test_a_repeated_seed_counts_once_and_unfinished_runs_stand_alone() -> None:
    runs = [
        _run(0, training__seed=0),
        _run(1, training__seed=0),
        _run(2, training__seed=1),
        _run(3, status="KILLED", training__seed=2),
        _run(4, status="RUNNING", training__seed=3),
    ]
    assert _names(*runs) == [["run-1", "run-2"], ["run-3"], ["run-4"]]


def test_a_parameter_that_only_some_runs_have_is_a_difference() -> None:
    groups = _groups(_run(0, a__b=1), _run(1, a__b=1, a__c=2))
    assert [dict(group.params) for group in groups] == [{"a.c": ""}, {"a.c": "2"}]


def test_tags_and_descriptions_are_no_difference_but_versions_are() -> None:
    def run(number: int, version: str, tags: str) -> RecordedRun:
        params = {"training__seed": number, "tracking__tags": tags, "description": tags}
        return replace(_run(number, **params), tags={"dqnkit.version": version})

    runs = [run(0, "1", "{}"), run(1, "1", "{team: blue}"), run(2, "2", "{}")]
    assert _names(*runs) == [["run-0", "run-1"], ["run-2"]]
    assert [dict(group.params) for group in _groups(*runs)] == [
        {"dqnkit.version": "1"},
        {"dqnkit.version": "2"},
    ]


def test_a_legend_names_the_run_if_many_parameters_differ() -> None:
    groups = _groups(_run(0, a__b=1, a__c=1, a__d=1), _run(1, a__b=2, a__c=2, a__d=2))
    assert [group.legend for group in groups] == ["A run-0", "B run-1"]
    two = _groups(_run(0, a__b=1, a__c=1), _run(1, a__b=2, a__c=2))
    assert two[1].legend == "B b=2, c=2 (1 seed)"


def test_letters_continue_after_z() -> None:
    groups = _groups(*(_run(number, a__b=number) for number in range(54)))
    letters = [group.letter for group in groups]
    assert letters[0] == "A"
    assert letters[25:28] == ["Z", "A1", "B1"]
    assert letters[51:] == ["Z1", "A2", "B2"]
    assert len(set(letters)) == 54


def test_a_score_counts_the_seeds_that_have_a_result() -> None:
    runs = (_run(0), _run(1), _run(2))
    some = Group(runs, (_evaluated(1.0), _evaluated(), _evaluated(3.0)), "A")
    assert some.sample_of == "2 of 3 seeds"
    np.testing.assert_array_equal(some.sample, [1.0, 3.0])
    one = Group(runs, (_evaluated(1.0), _evaluated(), _evaluated()), "A")
    assert (one.sample_of, one.score) == ("1 of 3 seeds", None)


def test_the_score_is_over_means_of_seeds_or_over_episodes_of_a_single_seed() -> None:
    finals = RNG.normal(size=(5, 20))
    runs = tuple(_run(number) for number in range(5))
    several = Group(runs, tuple(_evaluated(*row) for row in finals), "A")
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


def test_a_median_leaves_out_runs_without_the_metric() -> None:
    values = [{Metric.BEST_MEAN: 1.0}, {Metric.BEST_MEAN: 4.0}, {}]
    runs = tuple(replace(_run(i), metrics=metrics) for i, metrics in enumerate(values))
    group = Group(runs, (_evaluated(),) * 3)
    assert group.median(Metric.BEST_MEAN) == 2.5
    assert group.median(Metric.STEPS_PER_SECOND) is None


def test_a_group_becomes_a_json_document() -> None:
    run = replace(_run(0), metrics={Metric.BEST_MEAN: 4.0, Metric.TRAINING_SECONDS: 2.0})
    group = Group((run,), (_evaluated(1.0, 3.0),), "A", {"a.b": "1"})
    document = group.as_dict()
    assert document["runs"] == [{"id": "id0", "name": "run-0"}]
    assert document["score"]["value"] == 2.0
    assert document["score_of"] == "2 episodes of 1 seed"
    assert (document["status"], document["params"]) == ("FINISHED", {"a.b": "1"})
    assert (document["best_return_mean"], document["training_seconds"]) == (4.0, 2.0)
    assert document["steps_per_second"] is None


def test_a_curve_has_the_steps_that_all_runs_share() -> None:
    runs = (_run(0), _run(1))
    evaluations = (_evaluated(steps=(0, 10, 20)), _evaluated(steps=(10, 20, 30)))
    curve = Group(runs, evaluations, "A").curve
    assert curve is not None
    np.testing.assert_array_equal(curve.steps, [10, 20])
    np.testing.assert_array_equal(curve.middle, [12.0, 22.0])  # both means are the same
    np.testing.assert_array_equal(curve.low, curve.high)
    apart = (_evaluated(steps=(0,)), _evaluated(steps=(1,)))
    assert Group(runs, apart, "A").curve is None


def test_the_curve_of_a_single_seed_is_over_its_episodes() -> None:
    episodes = RNG.normal(size=20)
    curve = pooled_curve([{10: episodes, 0: np.array([1.0])}])
    assert curve is not None
    np.testing.assert_array_equal(curve.steps, [0, 10])
    np.testing.assert_allclose(curve.middle, [1.0, interquartile_mean(episodes)])
    assert curve.low[0] == curve.high[0] == 1.0
    assert curve.low[1] < curve.middle[1] < curve.high[1]


def test_groups_are_sorted_by_the_score_that_is_shown() -> None:
    """Medians of runs may be equal where scores are not."""
    metrics = {Metric.FINAL_IQM: 5.0, Metric.LATE_IQM: 1.0}
    finals = {"low": (4.0, 5.0), "high": (6.0, 7.0), "none": ()}
    runs = [
        replace(_run(0), id=name, name=name, metrics=metrics if values else {}, params={"a": name})
        for name, values in finals.items()
    ]
    evaluations = {run.id: _evaluated(*finals[run.id]) for run in runs}
    for metric, order in ((Metric.FINAL_IQM, ["high", "low", "none"]), (None, list(finals))):
        groups = grouped(runs, evaluations, metric)
        assert [group.runs[0].name for group in groups] == order
        assert [group.letter for group in groups] == ["A", "B", "C"]
    late = [replace(run, metrics={Metric.LATE_IQM: float(len(run.id))}) for run in runs]
    groups = grouped(late, evaluations, Metric.LATE_IQM)
    assert [group.runs[0].name for group in groups] == ["high", "none", "low"]


def test_the_seed_that_chose_a_trial_is_not_pooled_with_later_ones() -> None:
    tags = {Tag.STUDY: "s", Tag.TRIAL: "2"}
    trial, *fresh = (replace(_run(seed, training__seed=seed), name=f"s{seed}") for seed in range(3))
    assert _names(replace(trial, tags=tags), *fresh) == [["s0"], ["s1", "s2"]]
