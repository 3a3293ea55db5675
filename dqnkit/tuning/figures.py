"""Pictures of a search, by Optuna."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from dqnkit.evaluation import plots

VALUE = "IQM of the last evaluations"
"""What a trial's value is, on axes."""
_LEGEND_ROOM = 10
"""Trials that a legend has room for."""


def draw(study: optuna.Study, folder: Path) -> None:
    """Writes a PNG of each kind, and one page with all of them that answers to the mouse.

    Args:
      study: With at least one complete or pruned trial.
      folder: Where `search/*.png` and `search.html` go.
    """
    kinds = _possible(study)
    (folder / "search").mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Matplotlib's figures are an experiment of Optuna's
        for kind in kinds:
            plots.save_axes(_matplotlib(study, kind), folder / "search" / f"{kind}.png")
        pages = {kind: _plotly(study, kind) for kind in kinds}
    plots.write_page(f"Study {study.study_name}", pages, folder / "search.html")


def _possible(study: optuna.Study) -> list[str]:
    """The kinds that there is something to draw of."""
    values = [
        trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    ]
    kinds = ["intermediate_values"]
    if values:
        kinds += ["optimization_history", "parallel_coordinate", "slice"]
    if len(set(values)) > 1:  # nothing is important where all are equal
        kinds.append("param_importances")
    return kinds


def _arguments(kind: str) -> dict[str, Any]:
    return {} if kind == "intermediate_values" else {"target_name": VALUE}


def _plotly(study: optuna.Study, kind: str) -> Any:
    function = getattr(optuna.visualization, f"plot_{kind}")
    return function(study, **_arguments(kind))


def _matplotlib(study: optuna.Study, kind: str) -> Any:
    function = getattr(optuna.visualization.matplotlib, f"plot_{kind}")
    drawn = function(study, **_arguments(kind))
    axes = drawn.ravel()[0] if isinstance(drawn, np.ndarray) else drawn
    if kind == "slice":
        axes.figure.set_size_inches(3.2 * len(np.ravel(drawn)), 4.5)
        for each in np.ravel(drawn):
            each.set_xlabel(each.get_xlabel().rpartition(".")[2])
    elif kind == "intermediate_values":
        axes.figure.set_size_inches(8, 4.5)
        axes.set_xlabel("evaluation")
        axes.set_ylabel(VALUE)
        if len(axes.lines) > _LEGEND_ROOM and axes.get_legend() is not None:
            axes.get_legend().remove()
    elif kind == "parallel_coordinate":
        axes.figure.set_size_inches(12, 5)
        for each in axes.figure.axes:
            each.grid(visible=False)
    return axes
