from __future__ import annotations

import json
from typing import Any

import pytest

from dqnkit.tracking.views import Chart, View, bars, lines, parallel, scatter, view_page, view_tag


class Client:
    """The part of MLflow's client that keeps tags of experiments."""

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], str] = {}

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self.tags[experiment_id, key] = value


def _view(*charts: Chart, name: str = "study a b") -> View:
    return View(name, "tags.`a` = 'b'", "metrics.`m`", ["metrics.`m`", "params.`p`"], charts)


def _saved(view: View) -> dict[str, Any]:
    client = Client()
    view.save(client, "7")
    (((experiment, tag), text),) = client.tags.items()
    assert (experiment, tag) == ("7", view_tag(view.name))
    document: dict[str, Any] = json.loads(text)
    assert document["name"] == view.name
    state: dict[str, Any] = json.loads(document["state"])
    return state


def test_a_saved_view_has_its_runs_columns_and_charts() -> None:
    charts = [
        scatter("one", "x", "m"),
        scatter("two", "p", "m", is_param=True),
        parallel("three", ["p"], ["x", "m"]),
        lines("four", ["c", "d"], 10),
        bars("five", "m", 20),
    ]
    state = _saved(_view(*charts))
    assert (state["searchFilter"], state["orderByKey"]) == ("tags.`a` = 'b'", "metrics.`m`")
    assert state["orderByAsc"] is False
    assert state["runsHiddenMode"] == "SHOW_ALL"
    assert state["selectedColumns"] == state["columnOrder"] == ["metrics.`m`", "params.`p`"]
    kept = state["compareRunCharts"]
    assert [each["type"] for each in kept] == ["SCATTER", "SCATTER", "PARALLEL", "LINE", "BAR"]
    assert [each["displayName"] for each in kept] == ["one", "two", "three", "four", "five"]
    assert len({each["uuid"] for each in kept}) == 5
    assert kept[0]["xaxis"] == {"key": "x", "type": "METRIC"}
    assert kept[1]["xaxis"] == {"key": "p", "type": "PARAM"}
    assert kept[3]["selectedMetricKeys"] == ["c", "d"]
    assert [each["runsCountToCompare"] for each in kept] == [100, 100, 100, 10, 20]


def test_only_the_section_of_the_view_is_open() -> None:
    state = _saved(_view(bars("five", "m", 20)))
    first, *others = state["compareRunSections"]
    assert (first["name"], first["display"]) == ("study a b", True)
    assert {each["metricSectionId"] for each in state["compareRunCharts"]} == {first["uuid"]}
    assert {"eval", "final", "search"} <= {each["name"] for each in others}
    assert not any(each["display"] for each in others)


def test_views_of_similar_names_have_keys_of_their_own() -> None:
    names = [
        "study a b",
        "study a-b",
        "study A b",
        "study " + 60 * "x",
        "study " + 61 * "x",
        "ä/?&#",
    ]
    assert len({view_tag(name) for name in names}) == len(names)
    for name in names:
        page = view_page("7", name)
        assert page.startswith("/#/experiments/7/runs?workflowType=machine_learning&")
        key = page.partition("viewStateShareKey=")[2]
        assert key.replace("-", "").isalnum()
        assert view_tag(name) == f"mlflow.sharedViewState.{key}"
        assert _view(name=name).page("7") == page


def test_a_view_that_no_server_takes_is_refused() -> None:
    many = [bars(f"{number:0100}", "m", 20) for number in range(200)]
    with pytest.raises(ValueError, match="'study a b' takes"):
        _view(*many).save(Client(), "7")
