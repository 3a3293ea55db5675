"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dqnkit.evaluation import Episodes, Evaluation

_COLOUR = "#1f6feb"
_COLOURS = ("#1f6feb", "#d9730d", "#2da44e", "#8250df", "#cf222e", "#1b7c83", "#9a6700", "#6e7781")
_BINS = 30


def learning_curve(evaluations: Sequence[Evaluation], title: str, path: Path) -> None:
    """Writes a PNG: evaluation returns over environment steps, mean with range and quartiles."""
    # Without pyplot there is no global state, and no display is looked for.
    from matplotlib.figure import Figure  # half a second that only a plot needs

    steps = [evaluation.env_steps for evaluation in evaluations]
    returns = [np.asarray(evaluation.returns) for evaluation in evaluations]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    low, high = [r.min() for r in returns], [r.max() for r in returns]
    axes.fill_between(steps, low, high, color=_COLOUR, alpha=0.12, lw=0, label="min to max")
    quartiles = [np.quantile(r, [0.25, 0.75]) for r in returns]
    axes.fill_between(
        steps,
        [q[0] for q in quartiles],
        [q[1] for q in quartiles],
        color=_COLOUR,
        alpha=0.25,
        lw=0,
        label="middle half",
    )
    axes.plot(steps, [r.mean() for r in returns], color=_COLOUR, lw=2, label="mean")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return ({len(returns[0])} greedy episodes)")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=120)


def returns_histogram(samples: Mapping[str, Episodes], title: str, path: Path) -> None:
    """Writes a PNG: the returns of each sample, with interquartile mean and its interval."""
    from matplotlib.figure import Figure  # half a second that only a plot needs

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    every = np.concatenate([each.returns for each in samples.values()])
    low, high = float(every.min()), float(every.max())
    if low == high:  # one value alone has no width
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, _BINS + 1).tolist()
    for colour, (name, episodes) in zip(_COLOURS, samples.items(), strict=False):
        iqm, (start, end) = episodes.summary.iqm, episodes.interval
        label = f"{name}: IQM {iqm:.1f} ({start:.1f} to {end:.1f}), n={episodes.summary.n}"
        axes.hist(episodes.returns, bins=bins, color=colour, alpha=0.45, label=label)
        axes.axvspan(start, end, color=colour, alpha=0.15, lw=0)
        axes.axvline(iqm, color=colour, lw=1.5)
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("episodes")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, ncols=2)
    figure.savefig(path, dpi=120)
