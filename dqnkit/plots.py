"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dqnkit.evaluation import Evaluation

_COLOUR = "#1f6feb"


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
