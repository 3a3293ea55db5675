"""Figures of runs: static PNGs by Matplotlib, interactive HTML pages by Plotly.

Each `make_…_figure` function returns a figure, and `save_figure` or `save_interactive_figure`
writes it. Both libraries are imported by the first figure only, since that takes up to a second.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.evaluation.formatting import format_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

_COLORS = ("#1f6feb", "#d9730d", "#2da44e", "#8250df", "#cf222e", "#1b7c83", "#9a6700", "#6e7781")
_GREY = "#c8ccd1"
"""Colour of the curves after the first eight."""
_MAX_COLUMNS = 3
"""Pictures beside each other."""
_LOG_RATIO = 50.0
"""Ratio of the ends of a range above which its axis is logarithmic."""
_BINS = 30
_DPI = 120


class Curve(NamedTuple):
    """A learning curve with its 95 % confidence interval; all arrays have shape [points]."""

    steps: np.ndarray
    """Environment steps."""
    middle: np.ndarray
    """Interquartile means of the returns."""
    low: np.ndarray
    """Lower ends of the intervals."""
    high: np.ndarray
    """Upper ends of the intervals."""


# -- Matplotlib


def make_learning_curve_figure(evaluations: Sequence[Evaluation], title: str) -> Figure:
    """Draw the returns of one run: mean, range and quartiles over environment steps."""
    steps = [evaluation.env_steps for evaluation in evaluations]
    returns = [np.asarray(evaluation.returns) for evaluation in evaluations]
    color = _COLORS[0]
    figure, axes = _new_figure()
    low, high = [r.min() for r in returns], [r.max() for r in returns]
    axes.fill_between(steps, low, high, color=color, alpha=0.12, lw=0, label="min to max")
    quartiles = [np.quantile(r, [0.25, 0.75]) for r in returns]
    axes.fill_between(
        steps,
        [q[0] for q in quartiles],
        [q[1] for q in quartiles],
        color=color,
        alpha=0.25,
        lw=0,
        label="middle half",
    )
    axes.plot(steps, [r.mean() for r in returns], color=color, lw=2, label="mean")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return ({len(returns[0])} greedy episodes)")
    axes.set_title(_escape_math(title))
    axes.legend(loc="best", frameon=False)
    return figure


def make_returns_histogram_figure(samples: Mapping[str, Episodes], title: str) -> Figure:
    """Draw a histogram of each sample's returns, with the interquartile mean and its interval."""
    figure, axes = _new_figure()
    returns = np.concatenate([each.returns for each in samples.values()])
    low, high = float(returns.min()), float(returns.max())
    if low == high:  # bins need a positive width
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, _BINS + 1).tolist()
    for color, (name, episodes) in zip(_COLORS, samples.items(), strict=False):
        iqm, (start, end) = episodes.summary.iqm, episodes.interval or (None, None)
        label = f"{name}: IQM {format_interval(iqm, start, end)}, n={episodes.summary.n}"
        axes.hist(episodes.returns, bins=bins, color=color, alpha=0.45, label=_escape_math(label))
        if start is not None and end is not None:
            axes.axvspan(start, end, color=color, alpha=0.15, lw=0)
        axes.axvline(iqm, color=color, lw=1.5)
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("episodes")
    axes.set_title(_escape_math(title))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, ncols=2)
    return figure


def make_learning_curves_figure(curves: Mapping[str, Curve], title: str) -> Figure:
    """Draw learning curves by label: the first eight with their intervals, the others in grey."""
    figure, axes = _new_figure()
    highlighted, others = _divided(curves)
    for curve in others:
        axes.plot(curve.steps, curve.middle, color=_GREY, lw=0.8, zorder=1)
    for number, (label, curve) in enumerate(highlighted.items()):
        color = _COLORS[number % len(_COLORS)]
        axes.fill_between(curve.steps, curve.low, curve.high, color=color, alpha=0.18, lw=0)
        marker = "o" if len(curve.steps) == 1 else ""  # a line of one point is invisible
        name = _escape_math(label)
        axes.plot(curve.steps, curve.middle, f"-{marker}", color=color, lw=1.8, label=name)
    if others:
        axes.plot([], [], color=_GREY, lw=0.8, label=f"{len(others)} more")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("evaluation return: IQM, 95 % interval")
    axes.set_title(_escape_math(title))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    figure.set_size_inches(8, 4.5 + 0.2 * len(highlighted))
    return figure


def make_scatter_figure(
    points: Mapping[str, np.ndarray], values: np.ndarray, name: str, title: str
) -> Figure:
    """Draw parameters against a value, one picture each.

    Args:
      points: Values of each parameter, [n], by its name.
      values: The value, [n].
      name: Name of the value.
      title: Title of the figure.
    """
    from matplotlib.figure import Figure  # takes half a second, and only plots need it

    columns = min(_MAX_COLUMNS, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(points) :]:
        axes.remove()
    for axes, (parameter, numbers) in zip(grid.flat, points.items(), strict=False):
        axes.scatter(numbers, values, color=_COLORS[0], s=22, alpha=0.8)
        if numbers.min() > 0 and numbers.max() / numbers.min() > _LOG_RATIO:
            axes.set_xscale("log")
        axes.set_xlabel(_escape_math(parameter))
        axes.grid(alpha=0.25)
    for row in grid:
        row[0].set_ylabel(_escape_math(name))
    figure.suptitle(_escape_math(title))
    return figure


def _divided(curves: Mapping[str, Curve]) -> tuple[dict[str, Curve], list[Curve]]:
    """Return the curves that are highlighted, and the others."""
    places = list(curves.items())
    return dict(places[: len(_COLORS)]), [curve for _, curve in places[len(_COLORS) :]]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a Matplotlib figure as a PNG."""
    figure.savefig(path, dpi=_DPI)


def save_axes(axes: Axes, path: Path) -> None:
    """Write the figure of pyplot axes, such as those that Optuna returns, as a PNG and close it."""
    import matplotlib.pyplot as plt  # takes seconds, and holds state of the whole process

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")
    plt.close(figure)


# -- Plotly


def make_interactive_curves_figure(curves: Mapping[str, Curve], title: str) -> PlotlyFigure:
    """Draw the learning curves of `make_learning_curves_figure` with Plotly."""
    from plotly import graph_objects  # slow to import, and needed by comparisons only

    figure = graph_objects.Figure()
    highlighted, others = _divided(curves)
    for curve in others:
        line = {"color": _GREY, "width": 1}
        figure.add_scatter(
            x=curve.steps,
            y=curve.middle,
            line=line,
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )
    for number, (label, curve) in enumerate(highlighted.items()):
        color = _COLORS[number % len(_COLORS)]
        shared = {"legendgroup": label, "name": label}
        # The band is a polygon: along the upper ends, and back along the lower ones.
        figure.add_scatter(
            x=np.concatenate([curve.steps, curve.steps[::-1]]),
            y=np.concatenate([curve.high, curve.low[::-1]]),
            fill="toself",
            fillcolor=color,
            opacity=0.18,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            **shared,
        )
        figure.add_scatter(
            x=curve.steps,
            y=curve.middle,
            line={"color": color},
            mode="lines" if len(curve.steps) > 1 else "markers",
            customdata=np.stack([curve.low, curve.high], axis=1),
            hovertemplate="%{y:.4g} (%{customdata[0]:.4g} to %{customdata[1]:.4g})",
            **shared,
        )
    figure.update_layout(
        title=title,
        xaxis_title="environment steps",
        yaxis_title="evaluation return: IQM, 95 % interval",
        hovermode="x unified",
        template="plotly_white",
        legend={"orientation": "h", "yanchor": "top", "y": -0.15},
    )
    return figure


def save_interactive_figure(figure: PlotlyFigure, path: Path) -> None:
    """Write a Plotly figure as an HTML page that needs no network."""
    # MLflow shows the page in a frame that cannot load scripts from other hosts.
    figure.write_html(path, include_plotlyjs=True)


def interactive_curves(curves: Mapping[str, Curve], title: str, path: Path) -> None:
    """Write the figure of `make_interactive_curves_figure` as an HTML page."""
    save_interactive_figure(make_interactive_curves_figure(curves, title), path)


def write_page(title: str, figures: Mapping[str, PlotlyFigure], path: Path) -> None:
    """Write several Plotly figures, one below the other, as an HTML page that needs no network."""
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate(figures.values())
    ]
    head = f'<!doctype html><html><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    text = "\n".join([f"{head}</head><body>", *parts, "</body></html>"])
    path.write_text(text, encoding="utf-8")


def _escape_math(text: str) -> str:
    r"""Escape `$`, which would start a formula of Matplotlib."""
    return text.replace("$", r"\$")


def _new_figure() -> tuple[Figure, Axes]:
    # Figures made without pyplot have no global state and need no display.
    from matplotlib.figure import Figure  # takes half a second, and only plots need it

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    return figure, axes
