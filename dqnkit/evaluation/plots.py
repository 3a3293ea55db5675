"""Pictures of runs: PNGs by Matplotlib, pages that answer to the mouse by Plotly."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.evaluation.formatting import format_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#1f6feb", "#d9730d", "#2da44e", "#8250df", "#cf222e", "#1b7c83", "#9a6700", "#6e7781")
_BINS = 30


class Curve(NamedTuple):
    """A learning curve with its 95 % interval, all [points]."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def learning_curve(evaluations: Sequence[Evaluation], title: str, path: Path) -> None:
    """Writes a PNG: evaluation returns over environment steps, mean with range and quartiles."""
    steps = [evaluation.env_steps for evaluation in evaluations]
    returns = [np.asarray(evaluation.returns) for evaluation in evaluations]
    colour = _COLOURS[0]
    figure, axes = _figure()
    low, high = [r.min() for r in returns], [r.max() for r in returns]
    axes.fill_between(steps, low, high, color=colour, alpha=0.12, lw=0, label="min to max")
    quartiles = [np.quantile(r, [0.25, 0.75]) for r in returns]
    axes.fill_between(
        steps,
        [q[0] for q in quartiles],
        [q[1] for q in quartiles],
        color=colour,
        alpha=0.25,
        lw=0,
        label="middle half",
    )
    axes.plot(steps, [r.mean() for r in returns], color=colour, lw=2, label="mean")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return ({len(returns[0])} greedy episodes)")
    axes.set_title(_plain(title))
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=120)


def returns_histogram(samples: Mapping[str, Episodes], title: str, path: Path) -> None:
    """Writes a PNG: the returns of each sample, with interquartile mean and its interval."""
    figure, axes = _figure()
    every = np.concatenate([each.returns for each in samples.values()])
    low, high = float(every.min()), float(every.max())
    if low == high:  # one value alone has no width
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, _BINS + 1).tolist()
    for colour, (name, episodes) in zip(_COLOURS, samples.items(), strict=False):
        iqm, (start, end) = episodes.summary.iqm, episodes.interval
        label = f"{name}: IQM {format_interval(iqm, start, end)}, n={episodes.summary.n}"
        axes.hist(episodes.returns, bins=bins, color=colour, alpha=0.45, label=_plain(label))
        axes.axvspan(start, end, color=colour, alpha=0.15, lw=0)
        axes.axvline(iqm, color=colour, lw=1.5)
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("episodes")
    axes.set_title(_plain(title))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, ncols=2)
    figure.savefig(path, dpi=120)


def learning_curves(curves: Mapping[str, Curve], title: str, path: Path) -> None:
    """Writes a PNG: interquartile means over environment steps, with their intervals."""
    figure, axes = _figure()
    for number, (name, curve) in enumerate(curves.items()):
        colour, label = _COLOURS[number % len(_COLOURS)], _plain(name)
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, lw=0)
        style = ("-", "--", ":", "-.")[number // len(_COLOURS) % 4]
        marker = "o" if len(curve.steps) == 1 else ""  # one point makes no line
        axes.plot(
            curve.steps, curve.middle, style + marker, color=colour, lw=1.8, label=_plain(label)
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel("evaluation return: IQM, 95 % interval")
    axes.set_title(_plain(title))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    figure.set_size_inches(8, 4.5 + 0.2 * len(curves))
    figure.savefig(path, dpi=120)


def interactive_curves(curves: Mapping[str, Curve], title: str, path: Path) -> None:
    """Writes the picture of `learning_curves` as a page; it needs no network."""
    from plotly import graph_objects  # only a comparison waits for it

    figure = graph_objects.Figure()
    for number, (label, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        around = np.concatenate([curve.steps, curve.steps[::-1]])
        band = np.concatenate([curve.high, curve.low[::-1]])
        shared = {"legendgroup": label, "name": label}
        figure.add_scatter(
            x=around,
            y=band,
            fill="toself",
            fillcolor=colour,
            opacity=0.18,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            **shared,
        )
        figure.add_scatter(
            x=curve.steps,
            y=curve.middle,
            line={"color": colour},
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
    # MLflow shows the page in a frame that loads nothing from elsewhere.
    figure.write_html(path, include_plotlyjs=True)


def save_axes(axes: Axes, path: Path) -> None:
    """Writes the figure of axes that a library drew with pyplot as a PNG, and forgets it."""
    import matplotlib.pyplot as plt  # seconds, and state that the whole process shares

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def write_page(title: str, figures: Mapping[str, Any], path: Path) -> None:
    """Writes Plotly's figures below each other in one page, which needs no network."""
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate(figures.values())
    ]
    head = f'<!doctype html><html><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    text = "\n".join([f"{head}</head><body>", *parts, "</body></html>"])
    path.write_text(text, encoding="utf-8")


def _plain(text: str) -> str:
    """Text that Matplotlib takes for no formula."""
    return text.replace("$", r"\$")


def _figure() -> tuple[Figure, Axes]:
    # Without pyplot there is no global state, and no display is looked for.
    from matplotlib.figure import Figure  # half a second that only a plot needs

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    return figure, axes
