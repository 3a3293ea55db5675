from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.image import imread

from dqnkit.evaluation import plots
from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.evaluation.plots import Curve

EVALUATIONS = [
    Evaluation(returns=returns, lengths=(1,) * 4, iteration=step, env_steps=10 * step)
    for step, returns in enumerate([(1.0, 2.0, 3.0, 6.0), (4.0, 8.0, 8.0, 0.0), (5.0,) * 4])
]
CURVES = {
    "first": Curve(*np.array([[0, 10, 20], [1.0, 2.0, 4.0], [0.5, 1.5, 3.0], [1.5, 2.5, 5.0]])),
    "second": Curve(*np.array([[0, 30], [3.0, 2.0], [2.0, 1.0], [4.0, 3.0]])),
}
POINT = Curve(*np.array([[5], [1.0], [0.0], [2.0]]))


def _band(collection: PolyCollection) -> dict[float, tuple[float, float]]:
    """Lower and upper end of a band, by its x."""
    points: dict[float, list[float]] = {}
    for x, y in collection.get_paths()[0].vertices:
        points.setdefault(float(x), []).append(float(y))
    return {x: (min(ys), max(ys)) for x, ys in points.items()}


def _expected_band(curve: Curve) -> dict[float, tuple[float, float]]:
    return {
        float(x): (low, high)
        for x, low, high in zip(curve.steps, curve.low, curve.high, strict=True)
    }


def _legend(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def _is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


# -- One run


def test_learning_curve_shows_mean_range_and_quartiles() -> None:
    figure = plots.make_learning_curve_figure(EVALUATIONS, "a run")
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20])
    np.testing.assert_array_equal(line.get_ydata(), [3.0, 5.0, 5.0])
    spread, middle_half = axes.collections
    assert _band(spread) == {0.0: (1.0, 6.0), 10.0: (0.0, 8.0), 20.0: (5.0, 5.0)}
    assert _band(middle_half) == {0.0: (1.75, 3.75), 10.0: (3.0, 8.0), 20.0: (5.0, 5.0)}
    assert axes.get_title() == "a run"
    assert axes.get_xlabel() == "environment steps"
    assert axes.get_ylabel() == "return (4 greedy episodes)"
    assert _legend(axes) == ["min to max", "middle half", "mean"]


# -- Samples of returns


def test_histogram_counts_every_return_and_marks_the_interquartile_mean() -> None:
    trained = Episodes(returns=(0.0, 9.0, 10.0, 11.0, 30.0), lengths=(1,) * 5)
    random = Episodes(returns=(0.0, 0.0, 1.0), lengths=(1,) * 3)
    figure = plots.make_returns_histogram_figure({"trained": trained, "random": random}, "title")
    (axes,) = figure.axes
    bars = [[bar for bar in container.patches if bar.get_height()] for container in axes.containers]
    assert [sum(bar.get_height() for bar in each) for each in bars] == [5, 3]
    assert all(bar.get_width() == pytest.approx(1.0) for each in bars for bar in each)
    edges = sorted((bar.get_x(), bar.get_height()) for bar in bars[0])
    # The bins are 30 between the extremes of both samples; the last one is closed.
    assert edges == [(pytest.approx(x), 1) for x in (0.0, 9.0, 10.0, 11.0, 29.0)]
    marks = [float(line.get_xdata()[0]) for line in axes.lines]
    assert marks == [trained.summary.iqm, random.summary.iqm]
    spans = [
        patch for patch in axes.patches if patch not in [b for c in axes.containers for b in c]
    ]
    ends = [(span.get_x(), span.get_x() + span.get_width()) for span in spans]
    assert ends == [pytest.approx(trained.interval), pytest.approx(random.interval)]


def test_histogram_names_samples_with_their_statistics() -> None:
    samples = {"trained": Episodes(returns=(20.0,) * 4, lengths=(1,) * 4)}
    (axes,) = plots.make_returns_histogram_figure(samples, "title").axes
    assert _legend(axes) == ["trained: IQM 20.0 (20.0 to 20.0), n=4"]


def test_histogram_of_equal_returns_has_a_width() -> None:
    samples = {"trained": Episodes(returns=(500.0,) * 3, lengths=(1,) * 3)}
    (axes,) = plots.make_returns_histogram_figure(samples, "title").axes
    bars = axes.containers[0].patches
    assert bars[0].get_x() == 499.5
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(500.5)
    assert sum(bar.get_height() for bar in bars) == 3


# -- Several learning curves


def test_learning_curves_show_means_and_intervals() -> None:
    (axes,) = plots.make_learning_curves_figure(CURVES, "comparison").axes
    for line, band, (label, curve) in zip(
        axes.lines, axes.collections, CURVES.items(), strict=True
    ):
        np.testing.assert_array_equal(line.get_xdata(), curve.steps)
        np.testing.assert_array_equal(line.get_ydata(), curve.middle)
        assert _band(band) == _expected_band(curve)
        assert line.get_label() == label
        assert line.get_marker() in ("", "None")
    assert axes.get_title() == "comparison"


def test_curve_of_one_point_has_a_marker() -> None:
    (axes,) = plots.make_learning_curves_figure({"point": POINT}, "title").axes
    assert axes.lines[0].get_marker() == "o"


def test_of_many_curves_the_first_eight_are_highlighted() -> None:
    curves = {str(number): CURVES["first"] for number in range(50)}
    figure = plots.make_learning_curves_figure(curves, "title")
    (axes,) = figure.axes
    assert _legend(axes) == [*map(str, range(8)), "42 more"]
    colors = Counter(line.get_color() for line in axes.lines)
    assert sorted(colors.values()) == [1] * 8 + [43]  # with the line of the legend
    assert figure.get_figheight() < 7  # the plot is taller than its legend
    page = plots.make_interactive_curves_figure(curves, "title")
    assert [each.name for each in page.data if each.showlegend is None] == list(map(str, range(8)))
    assert len(page.data) == 42 + 2 * 8


def test_parameters_are_drawn_against_a_value_with_a_fitting_axis() -> None:
    points = {"rate": np.array([1e-5, 1e-2, 1e-3]), "size": np.array([32.0, 64.0, 128.0])}
    points |= {"zero": np.array([0.0, 1.0, 100.0]), "more": np.ones(3)}
    values = np.array([1.0, 2.0, np.nan])
    figure = plots.make_scatter_figure(points, values, "value", "$title")
    assert [axes.get_xlabel() for axes in figure.axes] == ["rate", "size", "zero", "more"]
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear", "linear"]
    np.testing.assert_array_equal(
        figure.axes[0].collections[0].get_offsets()[:2], [[1e-5, 1.0], [1e-2, 2.0]]
    )
    plots.save_figure(figure, Path("points.png"))
    assert _is_png(Path("points.png"))


def test_dollar_signs_start_no_formula() -> None:
    figure = plots.make_learning_curves_figure({"$x_1$": CURVES["first"]}, "$\\broken")
    (axes,) = figure.axes
    assert axes.lines[0].get_label() == r"\$x_1\$"
    assert axes.get_title() == r"\$\broken"
    plots.save_figure(figure, Path("formula.png"))  # a formula that is broken raises here
    assert _is_png(Path("formula.png"))


# -- Interactive curves


def test_interactive_curves_have_the_same_values() -> None:
    figure = plots.make_interactive_curves_figure(CURVES, "comparison")
    bands, lines = figure.data[::2], figure.data[1::2]
    for band, line, (label, curve) in zip(bands, lines, CURVES.items(), strict=True):
        np.testing.assert_array_equal(line.x, curve.steps)
        np.testing.assert_array_equal(line.y, curve.middle)
        np.testing.assert_array_equal(line.customdata, np.stack([curve.low, curve.high], axis=1))
        assert (line.name, line.mode) == (label, "lines")
        half = len(curve.steps)
        np.testing.assert_array_equal(band.y[:half], curve.high)
        np.testing.assert_array_equal(band.y[half:][::-1], curve.low)
        np.testing.assert_array_equal(band.x[half:][::-1], curve.steps)
        assert band.legendgroup == line.legendgroup  # a click on the legend hides both
        assert not band.showlegend
    assert figure.layout.title.text == "comparison"
    (_, point) = plots.make_interactive_curves_figure({"point": POINT}, "title").data
    assert point.mode == "markers"


# -- Files


@pytest.mark.parametrize(
    ("make_figure", "data"),
    [
        (plots.make_learning_curve_figure, EVALUATIONS),
        (plots.make_returns_histogram_figure, {"trained": EVALUATIONS[0]}),
        (plots.make_learning_curves_figure, CURVES),
    ],
)
def test_figures_are_saved_as_pictures(make_figure: Any, data: Any) -> None:
    plots.save_figure(make_figure(data, "title"), Path("figure.png"))
    assert _is_png(Path("figure.png"))
    height, width, _ = imread("figure.png").shape
    assert width == 960
    assert height >= 540


def test_axes_of_pyplot_are_saved_and_closed() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    _, axes = plt.subplots()
    axes.plot([0, 1], [0, 1])
    plots.save_axes(axes, Path("axes.png"))
    assert _is_png(Path("axes.png"))
    assert plt.get_fignums() == before


def _external_scripts(page: str) -> list[str]:
    return re.findall(r"<script[^>]*\ssrc=", page)


def test_interactive_page_needs_no_network() -> None:
    plots.interactive_curves(CURVES, "comparison", Path("curves.html"))
    page = Path("curves.html").read_text(encoding="utf-8")
    assert not _external_scripts(page)
    assert json.dumps("second") in page


def test_page_of_several_figures_has_one_copy_of_plotly() -> None:
    figures = {
        name: plots.make_interactive_curves_figure({name: curve}, f"figure of {name}")
        for name, curve in CURVES.items()
    }
    plots.write_page("Study <1>", figures, Path("page.html"))
    page = Path("page.html").read_text(encoding="utf-8")
    alone = len(figures["first"].to_html())
    assert alone < len(page) < 1.5 * alone
    assert not _external_scripts(page)
    assert "<title>Study &lt;1&gt;</title>" in page
    assert page.index("figure of first") < page.index("figure of second")
