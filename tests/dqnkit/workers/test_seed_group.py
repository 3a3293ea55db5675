from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.evaluation.aggregates import estimate
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import RunStatus
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.names import Metric, RunKind, Tag
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.tracker import ParentRun
from dqnkit.workers.seed_group import (
    GroupRecord,
    SeedGroup,
    SeedResult,
    aggregate,
    scores_table,
)
from tests.runs import make_store, record

CONFIG = loading.default_config("grouped", ["description=About it."])


def _result(seed: int, score: float = 1.0) -> SeedResult:
    return SeedResult(
        seed=seed,
        run_id=f"id{seed}",
        late_iqm=score,
        final_mean=score + 10,
        final_iqm=score + 20,
        steps_per_second=1_000.0,
        seconds=2.0,
        curve=((0, 0.0), (100, score)),
    )


def _group(
    *results: SeedResult, tracking_uri: str | None = "auto", **record_fields: Any
) -> SeedGroup:
    config_record = GroupRecord(tracking_uri, **record_fields)
    group = SeedGroup(CONFIG, "a-group", (3, 4), config_record)
    group.start()
    for result in results:
        group.add(result)
    return group


def _store() -> RunStore:
    return RunStore(locate_store())


def test_the_result_of_a_seed_is_that_of_its_run() -> None:
    evaluations = tuple(
        Evaluation(returns=(score, score + 2), lengths=(1, 1), iteration=step, env_steps=2 * step)
        for step, score in ((0, -50.0), (10, 4.0), (20, 6.0))
    )
    final = replace(evaluations[2], returns=(1.0, 2.0, 3.0, 10.0), lengths=(1,) * 4)
    result = SeedResult.from_run(
        7,
        TrainResult(
            experiment="x",
            run_name="x-s7",
            run_id="its-id",
            status=RunStatus.FINISHED,
            iterations=20,
            env_steps=40,
            seconds=3.0,
            compile_seconds=1.0,
            training_seconds=2.0,
            steps_per_second=20.0,
            last=evaluations[2],
            best=evaluations[2],
            final=final,
            late=late_episodes(evaluations),
            evaluations=evaluations,
            checkpoints=0,
            checkpoint_seconds=0.0,
            checkpoint_megabytes=0.0,
        ),
    )
    assert (result.seed, result.run_id) == (7, "its-id")
    assert result.late_iqm == 6.0  # the middle half of 4, 6, 6 and 8
    assert (result.final_mean, result.final_iqm) == (4.0, 2.5)
    assert (result.seconds, result.steps_per_second) == (3.0, 20.0)
    assert result.curve == ((0, -49.0), (20, 5.0), (40, 7.0))


def test_a_result_is_the_same_after_a_round_trip_through_json() -> None:
    result = replace(_result(3), late_iqm=0.1 + 0.2, run_id=None)
    document = json.loads(json.dumps(result.as_dict()))
    assert SeedResult.from_dict(document) == result
    nan = SeedResult.from_dict(json.loads(json.dumps(_result(3, math.nan).as_dict())))
    assert math.isnan(nan.late_iqm)
    del document["curve"]
    with pytest.raises(ValueError, match="curve"):
        SeedResult.from_dict(document)


def test_an_aggregate_has_one_value_per_seed() -> None:
    results = [_result(seed, score) for seed, score in enumerate((1.0, 2.0, 4.0, 90.0))]
    scores = aggregate(results)
    assert scores.n == 4
    assert scores.late == estimate(np.array([1.0, 2.0, 4.0, 90.0]))
    assert scores.late.value == 3.0
    assert scores.final == estimate(np.array([11.0, 12.0, 14.0, 100.0]))
    document = json.loads(json.dumps(scores.as_dict()))
    assert document["late"] == {
        "value": 3.0,
        "low": scores.late.low,
        "high": scores.late.high,
    }


def test_the_table_has_a_row_per_seed_and_one_for_the_aggregate() -> None:
    results = [_result(3, 31.5), _result(4, 33.5)]
    *_, first, second, total = scores_table(results, aggregate(results)).splitlines()
    assert first == "| 3 | 31.5 | 41.5 |"
    assert second == "| 4 | 33.5 | 43.5 |"
    assert total.startswith("| **IQM over 2 seeds (95 % interval)** | 32.5 ")


def test_the_record_of_a_group_has_its_seeds_and_their_aggregate() -> None:
    make_store()
    group = _group(_result(4, 3.0), _result(3, 1.0))
    assert [result.seed for result in group.results] == [3, 4]
    assert group.run_id is not None
    opened = _store().run(group.run_id)
    assert opened is not None
    assert (opened.status, opened.name, opened.experiment) == ("RUNNING", "a-group", "grouped")
    assert opened.params["training.seed"] == opened.tags[Tag.SEED] == "3, 4"
    assert opened.tags[Tag.KIND] == RunKind.SEEDS
    assert opened.tags[Tag.NOTE].startswith("About it.\n\n")
    assert opened.tags[Tag.NOTE].endswith("on **CartPole-v1**, seeds 3, 4.")

    assert group.finish(RunStatus.FINISHED, {Tag.TRIAL_STATE: "complete"}) == []
    closed = _store().run(group.run_id)
    assert closed is not None
    assert (closed.status, closed.tags[Tag.TRIAL_STATE]) == ("FINISHED", "complete")
    scores = aggregate(group.results)
    expected = {
        Metric.LATE_IQM: scores.late.value,
        Metric.LATE_LOW: scores.late.low,
        Metric.LATE_HIGH: scores.late.high,
        Metric.FINAL_IQM: scores.final.value,
        Metric.FINAL_LOW: scores.final.low,
        Metric.FINAL_HIGH: scores.final.high,
        Metric.SEEDS: 2.0,
    }
    expected[Metric.EVAL_MEAN] = 2.0
    middle, low, high = Metric.POOLED_IQM, Metric.POOLED_LOW, Metric.POOLED_HIGH
    expected |= {middle: 2.0, low: closed.metrics[low], high: closed.metrics[high]}
    assert closed.metrics == pytest.approx(expected)
    assert 1.0 <= closed.metrics[low] <= 2.0 <= closed.metrics[high] <= 3.0
    means = _store().client.get_metric_history(closed.id, Metric.EVAL_MEAN)
    assert [(point.step, point.value) for point in means] == [(0, 0.0), (100, 2.0)]
    assert "IQM over 2 seeds" in closed.tags[Tag.NOTE]
    assert _store().artifacts(closed) == {"config.yaml", "seeds.json", "learning_curve.png"}
    document = json.loads(_store().fetch(closed, "seeds.json", Path()).read_text("utf-8"))
    assert [SeedResult.from_dict(each) for each in document["seeds"]] == group.results
    assert document["aggregate"] == json.loads(json.dumps(scores.as_dict()))


def test_an_unfinished_group_has_no_curve_yet() -> None:
    """The seeds that are trained later would change it, and MLflow deletes no points."""
    make_store()
    group = _group(_result(3))
    assert group.finish(RunStatus.KILLED) == []
    closed = _store().run(group.run_id or "")
    assert closed is not None
    assert Metric.EVAL_MEAN not in closed.metrics
    assert Metric.SEEDS in closed.metrics


def test_seeds_without_a_common_step_have_no_curve() -> None:
    make_store()
    group = _group(_result(3), replace(_result(4), curve=((7, 1.0),)))
    assert group.finish(RunStatus.FINISHED) == []
    closed = _store().run(group.run_id or "")
    assert closed is not None
    assert _store().artifacts(closed) == {"config.yaml", "seeds.json"}


def test_a_group_without_results_has_no_aggregate() -> None:
    make_store()
    group = _group()
    assert group.finish(RunStatus.KILLED) == []
    closed = _store().run(group.run_id or "")
    assert closed is not None
    assert (closed.status, closed.metrics) == ("KILLED", {})


def test_runs_below_a_group_share_the_tags_of_its_parent() -> None:
    make_store()
    parent = ParentRun(record(name="a-study"), {Tag.STUDY: "s"})
    group = _group(parent=parent, kind=RunKind.TRIAL)
    assert group.parent == ParentRun(group.run_id, {Tag.STUDY: "s"})
    opened = _store().run(group.run_id or "")
    assert opened is not None
    assert opened.tags[Tag.PARENT] == parent.run_id
    assert (opened.tags[Tag.KIND], opened.tags[Tag.STUDY]) == (RunKind.TRIAL, "s")
    group.finish(RunStatus.FINISHED)


def test_the_run_of_a_dead_worker_becomes_failed() -> None:
    make_store()
    group = _group()
    running = record(CONFIG, name="a-seed", status=None)
    group.fail_run(running)
    group.fail_run(None)  # the worker had not opened a record
    assert group.finish(RunStatus.FAILED) == []
    run = _store().run(running)
    assert run is not None
    assert run.status == "FAILED"


@pytest.mark.parametrize(
    ("assignment", "tracking_uri"),
    [("tracking.enabled=true", None), ("tracking.enabled=false", "auto")],
)
def test_without_a_store_nothing_is_recorded(assignment: str, tracking_uri: str | None) -> None:
    config = loading.default_config("grouped", [assignment])
    group = SeedGroup(config, "a-group", (3,), GroupRecord(tracking_uri))
    group.start()
    group.add(_result(3))
    group.fail_run("some-id")
    assert group.finish(RunStatus.FINISHED, {"a": "b"}) == []
    assert (group.run_id, group.hints, group.parent) == (None, {}, ParentRun())
    assert list(Path.cwd().iterdir()) == []


def test_files_that_cannot_be_written_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: MlflowTracker, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    make_store()
    monkeypatch.setattr(MlflowTracker, "add_artifacts", fail)
    (problem,) = _group(_result(3)).finish(RunStatus.FINISHED)
    assert "files of a-group could not be written" in problem
    assert "No space left" in problem
