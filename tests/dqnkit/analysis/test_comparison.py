from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from dqnkit.analysis.comparison import as_number, compare
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError
from dqnkit.evaluation.aggregates import interquartile_mean
from dqnkit.events import Event, RunsRead, RunStatus, Warned
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.names import Metric
from dqnkit.tracking.store import RunStore
from tests.runs import record

RNG = np.random.default_rng(0)


def _config(seed: int, learning_rate: float, **more: Any) -> Config:
    assignments = [f"training.seed={seed}", f"optimizer.learning_rate={learning_rate}"]
    assignments += [f"{key}={value}" for key, value in more.items()]
    return loading.default_config("pooled", assignments)


def _record_groups() -> dict[float, np.ndarray]:
    """Record three seeds of two learning rates; return their final returns."""
    finals = {0.001: RNG.normal(100, 5, (3, 8)), 0.01: RNG.normal(103, 5, (3, 8))}
    for rate, rows in finals.items():
        for seed, row in enumerate(rows):
            curve = {0: [9.0, 11.0], 100: [50.0 + seed, 52.0], 200: row.tolist()}
            record(_config(seed, rate), name=f"r{rate}-s{seed}", finals=row.tolist(), curve=curve)
    return finals


def test_two_groups_are_compared_drawn_and_recorded() -> None:
    finals = _record_groups()
    result = compare(experiment="pooled", output="out")

    assert [len(group.runs) for group in result.groups] == [3, 3]
    assert [group.params for group in result.groups] == [  # the better one first
        {"optimizer.learning_rate": "0.01"},
        {"optimizer.learning_rate": "0.001"},
    ]
    means = [finals[rate].mean(axis=1) for rate in (0.01, 0.001)]
    for group, expected in zip(result.groups, means, strict=True):
        assert group.score is not None
        assert group.score.value == pytest.approx(float(interquartile_mean(expected)))
        assert group.median(Metric.STEPS_PER_SECOND) == 1000.0
        assert group.curve is not None
        np.testing.assert_array_equal(group.curve.steps, [0, 100, 200])
        assert (group.curve.low <= group.curve.middle).all()
        assert (group.curve.middle <= group.curve.high).all()
    assert result.improvement is not None
    assert result.improvement.value == pytest.approx(mannwhitneyu(*means).statistic / 9)
    assert result.improvement_over == "3 and 3 seeds"
    assert result.problems == ()

    names = ["comparison.json", "learning_curves.html", "learning_curves.png", "parameters.png"]
    assert [path.name for path in result.files] == names
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert Path("out/learning_curves.png").read_bytes().startswith(b"\x89PNG")
    page = Path("out/learning_curves.html").read_text(encoding="utf-8")
    assert "A learning_rate=0.01 (3 seeds)" in page
    assert len(page) > 1_000_000  # with Plotly's own code
    assert "cdn.plot.ly" not in page.partition("plotly.js v")[0]
    document = json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))
    assert document["groups"][0]["score"]["value"] == pytest.approx(result.groups[0].score.value)  # type: ignore[union-attr]

    reader = RunStore(locate_store())
    kept = reader.client.get_run(result.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.tags["dqnkit.kind"] == "comparison"
    note = kept.data.tags["mlflow.note.content"]
    assert "| A r0.01-s0 and 2 more seeds | 3 seeds | 0.01 |" in note
    assert {each.path for each in reader.client.list_artifacts(result.run_id)} == set(names)
    # A comparison is not a run of training.
    assert len(reader.runs()) == 6


def test_without_an_output_folder_files_are_only_artifacts() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0, 2.0], curve={0: [1.0]})
    result = compare("one")
    assert result.files == ()
    assert [path.name for path in Path.cwd().iterdir()] == ["mlruns"]
    artifacts = RunStore(locate_store()).client.list_artifacts(result.run_id)
    assert "learning_curves.png" in {each.path for each in artifacts}


def test_a_comparison_makes_a_figure_and_a_json_document() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0, 2.0], curve={0: [1.0], 9: [2.0]})
    record(_config(0, 0.2), name="two", finals=[3.0, 4.0], curve={0: [1.0], 9: [4.0]})
    result = compare("one", "two", output="out")
    (axes,) = result.make_figure().axes
    legends = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legends == list(result.curves) == [group.legend for group in result.groups]
    document = json.loads(json.dumps(result.as_dict()))
    assert document["probability_of_improvement"]["value"] == 0.0
    assert document["improvement_over"] == "2 and 2 episodes"
    assert document["run_id"] == result.run_id
    assert document["files"] == [str(path) for path in result.files]


def test_single_seeds_are_compared_by_their_episodes() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0, 2.0, 3.0], curve={0: [1.0]})
    record(_config(0, 0.2), name="two", finals=[2.0, 9.0], curve={0: [1.0]})
    result = compare("one", "two", "one")
    assert result.problems == ()
    assert [group.label for group in result.groups] == ["A one", "B two"]
    assert result.improvement is not None
    assert result.improvement.value == pytest.approx(0.5 * 1 / 6 + 1 / 6)
    assert result.improvement_over == "3 and 2 episodes"


def test_a_group_of_seeds_is_not_compared_with_episodes_of_one_seed() -> None:
    for seed in (0, 1):
        row = [float(seed), 2.0]
        record(_config(seed, 0.1), name=f"r{seed}", finals=row, curve={0: [1.0]})
    record(_config(0, 0.2), name="alone", finals=[5.0, 6.0], curve={0: [1.0]})
    result = compare("r0", "r1", "alone")
    assert result.improvement is None
    (problem,) = result.problems
    assert "one of A and B has several seeds and the other has one" in problem


def test_unreadable_evaluations_are_reported_and_their_mean_still_counts() -> None:
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


def test_pictures_of_an_earlier_comparison_are_removed() -> None:
    record(_config(0, 0.1), name="with", finals=[1.0], curve={0: [1.0]})
    record(_config(0, 0.2), name="without", status=RunStatus.FAILED)
    assert len(compare("with", output="out").files) == 3
    Path("out/mine.txt").touch()
    assert [path.name for path in compare("without", output="out").files] == ["comparison.json"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["comparison.json", "mine.txt"]


def test_names_are_not_drawn_as_formulas() -> None:
    record(_config(0, 0.1), name=r"a$\foo$b", finals=[1.0], curve={0: [1.0]})
    assert len(compare("latest", output="out").files) == 3


def test_runs_that_repeat_a_seed_are_left_out_and_reported() -> None:
    record(_config(0, 0.1), name="first", finals=[1.0], curve={0: [1.0]})
    record(_config(0, 0.1), name="again", finals=[2.0], curve={0: [1.0]})
    result = compare("first", "again")
    assert [group.label for group in result.groups] == ["A again"]
    (problem,) = result.problems
    assert problem.startswith("first (")
    assert "left out: a later run has the same configuration and the same seed" in problem


def test_a_run_without_a_result_is_shown_with_its_curve() -> None:
    record(_config(0, 0.1), name="ended", finals=[1.0, 2.0], curve={0: [1.0], 50: [2.0]})
    record(_config(0, 0.2), name="failed", curve={0: [1.0], 50: [7.0]}, status=RunStatus.FAILED)
    result = compare("ended", "failed")
    failed = result.groups[1]
    assert (failed.status, failed.score, failed.sample_of) == (
        "FAILED",
        None,
        "0 episodes of 1 seed",
    )
    assert failed.curve is not None
    np.testing.assert_array_equal(failed.curve.middle, [1.0, 7.0])
    assert result.improvement is None


def test_different_environments_are_reported_and_not_compared() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0], curve={0: [1.0]})
    record(
        _config(0, 0.1, **{"env.id": "Acrobot-v1"}), name="two", finals=[-9.0], curve={0: [-9.0]}
    )
    result = compare("one", "two")
    assert result.improvement is None
    (problem,) = result.problems
    assert problem.startswith("returns of different environments (Acrobot-v1, CartPole-v1) are")


def test_a_study_is_compared_by_its_name() -> None:
    record(_config(0, 0.1), name="one", finals=[1.0], tags={"dqnkit.study": "s"})
    record(_config(0, 0.2), name="other", finals=[1.0])
    assert [group.label for group in compare(study="s").groups] == ["A one"]


def test_trials_are_sorted_by_the_value_that_their_study_used() -> None:
    """The score of the best policy would put a trial with one lucky evaluation first."""
    for name, rate, late in (("w", 0.1, 20.0), ("x", 0.2, 40.0), ("y", 0.3, None), ("z", 0.4, 30)):
        config = _config(0, rate, **{"network.fc_layer_params": f"[{8 if name == 'w' else 4}, 2]"})
        run_id = record(
            config, name=name, finals=[500.0, 501.0], curve={0: [1.0]}, tags={"dqnkit.study": "s"}
        )
        store = RunStore(locate_store()).client
        if late is not None:
            store.log_metric(run_id, Metric.LATE_IQM, late)
        store.set_tag(run_id, "trial.state", "pruned" if name == "w" else "complete")
    result = compare(study="s")
    assert [group.label for group in result.groups] == ["A x", "B z", "C w", "D y"]
    assert [group.state for group in result.groups] == [
        "complete",
        "complete",
        "pruned",
        "complete",
    ]
    assert {name: values.tolist() for name, values in result.points.items()} == {
        "learning_rate": [0.2, 0.4, 0.1, 0.3],
        "fc_layer_params": [6.0, 6.0, 10.0, 6.0],
    }
    heights = result.make_points_figure().axes[0].collections[0].get_offsets()[:, 1]
    np.testing.assert_array_equal(np.ma.filled(heights, np.nan), [40.0, 30.0, 20.0, np.nan])
    named = compare("w", "x")
    assert [group.label for group in named.groups] == ["A w", "B x"]
    assert named.points == {}


@pytest.mark.parametrize(
    ("param", "number"),
    [
        *(("0.5", 0.5), ("7", 7.0), ("[8, 4]", 12.0), ("[]", None), ("True", None)),
        *(("true", None), ("None", None), ("dqn", None), ("[[32, 8, 4]]", None), ("", None)),
    ],
)
def test_a_parameter_is_a_number_if_it_says_one(param: str, number: float | None) -> None:
    assert as_number(param) == number


def test_wrong_arguments_are_refused_and_nothing_is_recorded() -> None:
    with pytest.raises(ConfigError, match="name runs, `experiment` or `study`"):
        compare()
    with pytest.raises(ConfigError, match="no runs of study 's'"):
        compare(study="s")
    record(_config(0, 0.1), name="one", finals=[1.0])
    with pytest.raises(ConfigError, match="there is no experiment 'nothing'"):
        compare(experiment="nothing")
    with pytest.raises(ConfigError, match="no run 'two'"):
        compare("one", "two")
    Path("in-the-way").touch()
    with pytest.raises(ConfigError, match=r"output=in-the-way: cannot be written.*another folder"):
        compare("one", output="in-the-way")
    assert len(RunStore(locate_store()).experiments) == 2  # nothing was recorded


def test_a_comparison_is_returned_even_if_it_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(_config(0, 0.1), name="one", finals=[1.0, 2.0], curve={0: [1.0]})

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("read-only")

    monkeypatch.setattr("mlflow.MlflowClient.create_run", refuse)
    result = compare("one", output="comparison")
    assert result.groups[0].score is not None
    assert Path("comparison/learning_curves.png").is_file()
    (problem,) = result.problems
    assert "was not recorded" in problem
    assert "train without" not in problem


def test_a_listener_receives_each_run_and_the_problems() -> None:
    for _ in range(2):  # the same configuration and seed: one of them is left out
        record(_config(0, 0.001), finals=[1.0, 2.0])
    events: list[Event] = []
    problems = compare(experiment="pooled", listener=events.append).problems
    assert events == [RunsRead(1, 2), RunsRead(2, 2), *map(Warned, problems)]
    assert "left out" in problems[0]


def test_a_seed_that_rests_on_one_episode_is_told() -> None:
    for seed, finals in enumerate([[100.0, 101.0], [90.0]]):
        record(_config(seed, 0.001), name=f"s{seed}", finals=finals, curve={0: finals})
    (problem,) = compare(experiment="pooled").problems
    assert problem.startswith("A s0 and 1 more seed: the score of s1")
    assert "rests on one episode" in problem
