"""Measures how often the 95 % interval of the interquartile mean contains the true value.

    uv run python benchmarks/bootstrap_coverage.py [--trials 4000] [--dry]

The samples are normal: the interquartile mean of a symmetric distribution is its center. The table
is written into `docs/results.md`.
"""

from __future__ import annotations

import numpy as np
import report

from dqnkit.evaluation.aggregates import bootstrap_interval
from dqnkit.evaluation.formatting import markdown_table

SAMPLE_SIZES = (2, 3, 5, 10, 20, 100)
RESAMPLES = 1_000
DOCUMENT = report.DOCUMENT.with_name("results.md")


def coverage(sample_size: int, trials: int) -> float:
    """Return the fraction of trials whose interval contains the center."""
    rng = np.random.default_rng(sample_size)
    covered = 0
    for trial in range(trials):
        values = rng.normal(size=sample_size)
        low, high = bootstrap_interval(values, resamples=RESAMPLES, seed=trial)
        covered += low <= 0.0 <= high
    return covered / trials


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument(
        "--trials", type=report.positive_int, default=4_000, help="samples of each size"
    )
    report.add_dry_option(parser)
    args = parser.parse_args()
    cells = [f"{coverage(size, args.trials):.0%}" for size in SAMPLE_SIZES]
    table = markdown_table(
        ["sample size", *map(str, SAMPLE_SIZES)],
        [[f"coverage in {args.trials:,} trials", *cells]],
    )
    print(table)
    if not args.dry:
        report.write_section("coverage", table, DOCUMENT)


if __name__ == "__main__":
    main()
