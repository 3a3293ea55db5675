from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.events import RunStatus
from dqnkit.tracking import pages
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.names import Metric, RunKind, Tag
from dqnkit.tracking.pages import Page, differing_params
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.tracker import ParentRun, RunHeader
from dqnkit.tracking.ui import served
from tests.runs import make_store, record

RATE, AGENT = "optimizer.learning_rate", "agent.kind"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def find_page(store: RunStore, run: str | None = None, **shown: str) -> str:
    """Return the path of the page that was asked for."""
    page = pages.find_page(store, run, **shown)
    assert page.problem == ""
    return page.path


def _store() -> RunStore:
    return RunStore(locate_store())


def _track(name: str, tags: dict[str, str], parent: ParentRun, **more: Any) -> str:
    tracker = MlflowTracker(locate_store(), parent)
    tracker.start(RunHeader("pole", name, more.pop("params", {}), tags))
    for metric, value in more.items():
        tracker.log({metric.replace("__", "/"): value}, 10)
    tracker.finish(RunStatus.FINISHED)
    assert tracker.run_id is not None
    return tracker.run_id


def _record_study(trials: int, name: str = "fifty") -> str:
    """Record a study of trials whose values are 0, 10, 20 and so on; return its id."""
    make_store()
    space = {f"search.{RATE}": "{}", f"search.{AGENT}": "{}", "tune.seeds_per_trial": 1}
    tags = {Tag.KIND: RunKind.STUDY, Tag.STUDY: name}
    study = _track(name, tags, ParentRun(), params=space)
    for number in range(trials):
        axes = {"search/log10_learning_rate": -2.0 - number / 10}
        parent = ParentRun(study, {Tag.STUDY: name, Tag.TRIAL: str(number)}, axes)
        params = {RATE: 10 ** (-2.0 - number / 10), AGENT: "dqn", "training.seed": 0}
        curve = {"late__return_iqm": 10.0 * number, "eval__return_mean": 10.0 * number}
        kind = {Tag.KIND: RunKind.TRAINING}
        _track(f"{name}-t{number:03}", kind, parent, params=params, **curve)
    return study


def _state(page: str) -> dict[str, Any]:
    """Return the saved view that a page opens."""
    experiment_id = page.partition("/experiments/")[2].partition("/")[0]
    key = page.partition("viewStateShareKey=")[2]
    tags = _store().client.get_experiment(experiment_id).tags
    state: dict[str, Any] = json.loads(json.loads(tags[f"mlflow.sharedViewState.{key}"])["state"])
    return state


def _shown(page: str) -> list[str]:
    """Return the names of the runs that a page shows, in its order."""
    state = _state(page)
    experiment_id = page.partition("/experiments/")[2].partition("/")[0]
    order = f"{state['orderByKey']} DESC"
    found = _store().client.search_runs([experiment_id], state["searchFilter"], order_by=[order])
    return [run.info.run_name for run in found]


def test_the_page_of_a_study_shows_its_trials_best_first() -> None:
    _record_study(3)
    _record_study(1, "another")
    page = find_page(_store(), study="fifty")
    assert _shown(page) == ["fifty-t002", "fifty-t001", "fifty-t000"]
    state = _state(page)
    first, second, parallel, best = state["compareRunCharts"]
    axis = "search/log10_learning_rate"
    assert first["xaxis"] == {"key": axis, "type": "METRIC"}
    assert first["yaxis"]["key"] == Metric.LATE_IQM
    assert second["xaxis"] == {"key": AGENT, "type": "PARAM"}  # words have no axis of numbers
    assert (parallel["selectedParams"], parallel["selectedMetrics"]) == (
        [AGENT],
        [axis, Metric.LATE_IQM],
    )
    assert (best["metricKey"], best["runsCountToCompare"]) == (Metric.EVAL_MEAN, 10)
    assert state["selectedColumns"] == [
        "metrics.`late/return_iqm`",
        "metrics.`final/return_iqm`",
        "params.`agent.kind`",
        "params.`optimizer.learning_rate`",
        "tags.`trial.state`",
    ]


@pytest.mark.parametrize("reference", ["fifty", "id"])
def test_a_study_is_found_by_its_name_and_id_like_any_run(reference: str) -> None:
    study = _record_study(2)
    named = study[:8] if reference == "id" else reference
    assert find_page(_store(), named) == find_page(_store(), study="fifty")
    assert find_page(_store()) == find_page(_store(), study="fifty")  # of the latest run


def test_a_study_that_does_not_exist_names_the_nearest() -> None:
    _record_study(1)
    with pytest.raises(ArgumentError, match=r"no such study in .*; nearest: fifty") as caught:
        find_page(_store(), study="fiftie")
    assert (caught.value.argument, caught.value.value) == ("study", "fiftie")


def test_the_page_of_an_experiment_shows_all_trainings_and_what_differs() -> None:
    for seed in (1, 2):
        for rate in ("1e-3", "1e-4"):
            overrides = [f"training.seed={seed}", f"{RATE}={rate}", "network.fc_layer_params=[]"]
            config = loading.default_config("pole", overrides)
            record(config, name=f"s{seed}-{rate}", finals=[10.0 * seed])
    page = find_page(_store(), experiment="pole")
    assert set(_shown(page)) == {"s1-1e-3", "s1-1e-4", "s2-1e-3", "s2-1e-4"}
    assert _shown(page)[0].startswith("s2")
    assert _state(page)["selectedColumns"][2:] == [
        "params.`training.seed`",
        "params.`optimizer.learning_rate`",
    ]
    assert find_page(_store()) == page
    with pytest.raises(ConfigError, match="there is no experiment 'poles'"):
        find_page(_store(), experiment="poles")


def test_the_page_of_a_group_shows_its_seeds_and_their_aggregate() -> None:
    make_store()
    group = _track("group", {Tag.KIND: RunKind.SEEDS}, ParentRun(), late__return_iqm=2.0)
    for seed in (1, 2):
        kind = {Tag.KIND: RunKind.TRAINING, Tag.PARENT: group}
        _track(f"group-s{seed}", kind, ParentRun(group), late__return_iqm=2.0 * seed - 1)
    record(name="other")
    page = find_page(_store(), "group")
    assert _shown(page) == ["group-s2", "group", "group-s1"]
    keys = [chart["selectedMetricKeys"] for chart in _state(page)["compareRunCharts"][:2]]
    assert keys == [[Metric.EVAL_MEAN], [Metric.POOLED_IQM, Metric.POOLED_LOW, Metric.POOLED_HIGH]]


def test_the_page_of_a_comparison_shows_its_runs_if_they_are_of_one_experiment() -> None:
    first, second = record(name="first", finals=[1.0]), record(name="second", finals=[2.0])
    kind = {Tag.KIND: RunKind.COMPARISON}
    _track("both", {**kind, Tag.COMPARED_RUNS: f"{first},{second}"}, ParentRun())
    assert set(_shown(find_page(_store(), "both"))) == {"first", "second"}
    foreign = _track("foreign", {Tag.KIND: RunKind.TRAINING}, ParentRun())
    comparison = _track("mixed", {**kind, Tag.COMPARED_RUNS: f"{first},{foreign}"}, ParentRun())
    assert find_page(_store(), "mixed").endswith(f"/runs/{comparison}")


def test_the_page_of_a_run_is_its_own() -> None:
    run = record(name="one")
    assert find_page(_store(), "one") == f"/#/experiments/1/runs/{run}"
    with pytest.raises(ConfigError, match="there is no run 'two'"):
        find_page(_store(), "two")


def test_an_experiment_is_described_by_its_best_score_and_linked_to_its_views() -> None:
    record(name="one", finals=[1.0, 2.0, 3.0])
    find_page(_store(), experiment="cartpole")
    page = find_page(_store(), experiment="cartpole")  # now its own view can be linked
    note = _store().client.get_experiment("1").tags[Tag.NOTE]
    assert note.startswith("CartPole-v1: best policy 2 (1 to 3) by one")
    assert f"by one. [trainings]({page[1:]}). Described by dqnkit." in note
    _store().client.set_experiment_tag("1", Tag.NOTE, "Mine.")
    find_page(_store(), experiment="cartpole")
    assert _store().client.get_experiment("1").tags[Tag.NOTE] == "Mine."


@pytest.mark.parametrize("broken", ["old server", "read-only store"])
def test_without_views_the_charts_of_the_experiment_are_opened(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _record_study(1)

    def fail(*_: object) -> None:
        raise OSError("read-only")

    if broken == "old server":
        monkeypatch.setattr(pages, "_opens_views", lambda _: False)
    else:
        monkeypatch.setattr(pages.View, "save", fail)
    page: Page = pages.find_page(_store(), study="fifty")
    assert page.path.startswith("/#/experiments/1/runs?workflowType")
    assert "viewStateShareKey" not in page.path
    assert (
        page.problem.endswith("shows the charts of the experiment") or "read-only" in page.problem
    )


def test_parameters_that_differ_leave_out_seeds_and_names() -> None:
    for name, seed, rate in (("a", 1, "1e-3"), ("b", 2, "1e-2")):
        overrides = [f"training.seed={seed}", f"{RATE}={rate}", f"description={name}"]
        record(loading.default_config("pole", [*overrides, "network.fc_layer_params=[]"]))
    assert differing_params(_store().runs()) == [RATE]
    assert differing_params([]) == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_link_of_a_study_shows_all_trials_in_a_browser() -> None:
    """MLflow shows ten runs, and none below a parent, unless a view says otherwise."""
    _record_study(30)
    with served(locate_store()) as (_, address), tempfile.TemporaryDirectory() as profile:
        page = address + find_page(_store(), study="fifty")
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--dump-dom"]
        arguments += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
        arguments += [f"--user-data-dir={profile}", "--window-size=1600,3000"]
        shown = subprocess.run(
            [str(CHROMIUM), *arguments, "--virtual-time-budget=60000", page],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        ).stdout
    assert "matching runs" in shown
    assert all(f"fifty-t{number:03}" in shown for number in range(30))
    assert "search/log10_learning_rate" in shown
