from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from dqnkit.tuning import figures


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    plt.close("all")


def _study(values: list[float | None]) -> optuna.Study:
    """Make a study with one trial per value; None stands for a pruned trial."""
    study = optuna.create_study(direction="maximize", study_name="drawn")
    distribution = optuna.distributions.FloatDistribution(0, 1)
    for number, value in enumerate(values):
        trial = create_trial(
            state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
            value=value,
            params={"agent.x": number / len(values), "agent.y": 0.5},
            distributions={"agent.x": distribution, "agent.y": distribution},
            intermediate_values={step: float(step * number) for step in range(1, 4)},
        )
        study.add_trial(trial)
    return study


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ([None], ["intermediate_values"]),
        (
            [1.0, 1.0, None],
            ["intermediate_values", "optimization_history", "parallel_coordinate", "slice"],
        ),
        (
            [1.0, 2.0],
            [
                "intermediate_values",
                "optimization_history",
                "parallel_coordinate",
                "slice",
                "param_importances",
            ],
        ),
    ],
)
def test_figures_need_data(values: list[float | None], kinds: list[str]) -> None:
    assert figures._applicable_kinds(_study(values)) == kinds


def test_a_search_is_drawn_as_pngs_and_as_a_page(tmp_path: Path) -> None:
    figures.draw(_study([1.0, 2.0, 3.0, None, 2.5]), tmp_path)
    pictures = sorted((tmp_path / "search").iterdir())
    assert [path.stem for path in pictures] == [
        "intermediate_values",
        "optimization_history",
        "parallel_coordinate",
        "param_importances",
        "slice",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    page = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot") >= 5
    assert "Study drawn" in page
    assert "<script src" not in page  # the page needs no network


def test_axes_are_labelled() -> None:
    study = _study([1.0, 2.0, None])
    axes = figures._draw_axes(study, "intermediate_values")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("evaluation", figures.VALUE_LABEL)
    assert figures._draw_axes(study, "slice").get_xlabel() == "x"


def test_a_legend_of_many_trials_is_left_out() -> None:
    few = figures._draw_axes(_study([1.0, 2.0]), "intermediate_values")
    many = figures._draw_axes(_study([float(n) for n in range(12)]), "intermediate_values")
    assert few.get_legend() is not None
    assert many.get_legend() is None
