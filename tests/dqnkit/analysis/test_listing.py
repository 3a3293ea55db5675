from __future__ import annotations

from pathlib import Path

import pytest

from dqnkit.analysis.listing import list_runs
from dqnkit.config import loading
from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.events import RunStatus
from tests.runs import record


def _record_three() -> None:
    configs = [loading.default_config("listed", [f"training.seed={seed}"]) for seed in range(3)]
    record(configs[0], name="low", finals=[1.0])
    record(configs[1], name="high", finals=[9.0], tags={"dqnkit.study": "s"})
    record(configs[2], name="none", status=RunStatus.FAILED)


def test_an_empty_store_lists_nothing_and_is_not_created() -> None:
    assert list_runs() == []
    assert list_runs(sort="final/return_iqm") == []
    assert not Path("mlruns").exists()


def test_the_latest_run_comes_first() -> None:
    _record_three()
    assert [run.name for run in list_runs()] == ["none", "high", "low"]
    assert [run.name for run in list_runs(limit=1)] == ["none"]


def test_sorting_leaves_out_runs_without_the_metric() -> None:
    _record_three()
    assert [run.name for run in list_runs(sort="final/return_iqm")] == ["high", "low"]
    assert [run.name for run in list_runs(sort="final/return_iqm", limit=1)] == ["high"]


def test_runs_are_filtered_by_experiment_status_and_study() -> None:
    _record_three()
    record(loading.default_config("other"), name="elsewhere")
    assert [run.name for run in list_runs(study="s")] == ["high"]
    assert [run.name for run in list_runs(status="FAILED")] == ["none"]
    assert [run.name for run in list_runs(experiment="other")] == ["elsewhere"]
    assert list_runs(experiment="other", study="s") == []


def test_another_store_is_chosen_by_its_uri() -> None:
    record(name="there", tracking_uri="elsewhere")
    assert list_runs() == []
    assert [run.name for run in list_runs(tracking_uri="elsewhere")] == ["there"]
    with pytest.raises(ArgumentError, match="tracking_uri=None: there is no store to read"):
        list_runs(tracking_uri=None)


@pytest.mark.parametrize("sort", ["nothing", 'a"b`c'])
def test_an_unknown_metric_is_refused_with_those_that_runs_have(sort: str) -> None:
    _record_three()
    with pytest.raises(ArgumentError, match=r"no run has this metric.*final/return_iqm") as caught:
        list_runs(sort=sort)
    assert (caught.value.argument, caught.value.value) == ("sort", sort)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="limit=0: expected a number from 1"):
        list_runs(limit=0)
    _record_three()
    with pytest.raises(ConfigError, match=r"there is no experiment 'nothing'.*listed"):
        list_runs(experiment="nothing")


def test_a_metric_that_is_nearly_right_gets_the_nearest_and_not_all() -> None:
    _record_three()
    with pytest.raises(ArgumentError) as caught:
        list_runs(sort="return")
    assert caught.value.problem.startswith("no run has this metric; the nearest are ")
    named = caught.value.problem.partition("nearest are ")[2].split(", ")
    assert len(named) <= 5
    assert "final/return_iqm" in named
    assert all("return" in each for each in named)


def test_a_study_that_does_not_exist_is_refused() -> None:
    assert list_runs(study="s") == []  # in an empty store
    _record_three()
    with pytest.raises(ArgumentError, match="there is no such study in") as caught:
        list_runs(study="nope")
    assert (caught.value.argument, caught.value.value) == ("study", "nope")
