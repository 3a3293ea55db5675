"""How often the 95 % interval of the interquartile mean holds the truth, by sample size.

    uv run python benchmarks/bootstrap_coverage.py [--trials 4000] [--dry]

Normal data; the interquartile mean of a symmetric distribution is its centre.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import report

from dqnkit.evaluation.aggregates import bootstrap_interval

SIZES = (2, 3, 5, 10, 20, 100)
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "looking.md"


def coverage(size: int, trials: int) -> float:
    """Share of trials whose interval holds the centre."""
    rng = np.random.default_rng(size)
    held = 0
    for trial in range(trials):
        low, high = bootstrap_interval(rng.normal(size=size), resamples=1_000, seed=trial)
        held += low <= 0.0 <= high
    return held / trials


def main() -> None:
    """Measures, prints, and writes into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4_000)
    parser.add_argument("--dry", action="store_true", help="print only")
    arguments = parser.parse_args()
    shares = [f"{coverage(size, arguments.trials):.0%}" for size in SIZES]
    table = "\n".join(
        [
            f"| values | {' | '.join(map(str, SIZES))} |",
            "|---" * (len(SIZES) + 1) + "|",
            f"| held, of {arguments.trials:,} trials | {' | '.join(shares)} |",
        ]
    )
    print(table)
    if not arguments.dry:
        report.write("coverage", table, DOCUMENT)


if __name__ == "__main__":
    main()
