"""Figures of a search, drawn by Optuna."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from dqnkit.evaluation import plots
from dqnkit.tracking.names import Artifact

VALUE_LABEL = "IQM of the last evaluations"
"""Label of axes that show the values of trials."""
_MAX_LEGEND_ENTRIES = 10


def draw(study: optuna.Study, folder: Path) -> None:
    """Write a PNG of each kind of figure, and an interactive page with all of them.

    Args:
      study: A study with at least one complete or pruned trial.
      folder: Folder in which `search/*.png` and `search.html` are written.
    """
    kinds = _applicable_kinds(study)
    pictures = folder / Artifact.SEARCH_FIGURES
    pictures.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that its Matplotlib figures are experimental
        for kind in kinds:
            plots.save_axes(_draw_axes(study, kind), pictures / f"{kind}.png")
        pages = {kind: _make_plotly_figure(study, kind) for kind in kinds}
    plots.write_page(f"Study {study.study_name}", pages, folder / Artifact.SEARCH_PAGE)


def _applicable_kinds(study: optuna.Study) -> list[str]:
    """Return the kinds of figures for which the study has data."""
    values = [
        trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    ]
    kinds = ["intermediate_values"]
    if values:
        kinds += ["optimization_history", "parallel_coordinate", "slice"]
    if len(set(values)) > 1:  # importances are undefined if all values are equal
        kinds.append("param_importances")
    return kinds


def _arguments(kind: str) -> dict[str, Any]:
    return {} if kind == "intermediate_values" else {"target_name": VALUE_LABEL}


def _make_plotly_figure(study: optuna.Study, kind: str) -> Any:
    plot = getattr(optuna.visualization, f"plot_{kind}")
    return plot(study, **_arguments(kind))


def _draw_axes(study: optuna.Study, kind: str) -> Any:
    """Draw a figure with Matplotlib; return its axes, or the first of several."""
    plot = getattr(optuna.visualization.matplotlib, f"plot_{kind}")
    drawn = plot(study, **_arguments(kind))
    axes = drawn.ravel()[0] if isinstance(drawn, np.ndarray) else drawn
    match kind:
        case "slice":
            axes.figure.set_size_inches(3.2 * len(np.ravel(drawn)), 4.5)
            for each in np.ravel(drawn):
                each.set_xlabel(each.get_xlabel().rpartition(".")[2])
        case "intermediate_values":
            axes.figure.set_size_inches(8, 4.5)
            axes.set_xlabel("evaluation")
            axes.set_ylabel(VALUE_LABEL)
            if len(axes.lines) > _MAX_LEGEND_ENTRIES and axes.get_legend() is not None:
                axes.get_legend().remove()
        case "parallel_coordinate":
            axes.figure.set_size_inches(12, 5)
            for each in axes.figure.axes:
                each.grid(visible=False)
    return axes
