"""What the committed experiments learn, over ten seeds.

    uv run python benchmarks/learning.py [EXPERIMENT ...]

Trains each experiment with ten seeds that no search has used, prints a line a seed, and writes
the table of `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics

import numpy as np
import report

from dqnkit import experiments
from dqnkit.statistics import bootstrap_interval, interquartile_mean
from dqnkit.training.run import TrainResult, train

GOALS = {"tutorial": 195.0, "cartpole": 500.0, "acrobot": -100.0, "mountain-car": -110.0}
"""Mean return of an evaluation that counts as reached: the tutorial's, the maximum, and the
thresholds that Gymnasium registers for the other two."""


def train_all(name: str, seeds: int) -> list[TrainResult]:
    results = []
    for seed in range(seeds):
        result = train(experiments.load(name, [f"training.seed={seed}"]))
        results.append(result)
        row = {
            "experiment": name,
            "seed": seed,
            "best": result.best.summary.mean,
            "last": result.last.summary.mean,
            "final": result.final.summary.mean,
            "training_seconds": round(result.training_seconds, 2),
            "compile_seconds": round(result.compile_seconds, 2),
        }
        print(json.dumps(row), flush=True)
    return results


def table_row(name: str, results: list[TrainResult]) -> str:
    config = experiments.load(name)
    goal = GOALS[name]
    reached = sum(result.best.summary.mean >= goal for result in results)
    finals = np.array([result.final.summary.mean for result in results])
    lasts = np.array([result.last.summary.mean for result in results])
    low, high = bootstrap_interval(finals)
    seconds = statistics.median(result.training_seconds for result in results)
    return (
        f"| `{name}` ({config.env.id}) | {results[0].env_steps:,} | {goal:g} "
        f"| {reached} of {len(results)} | {float(interquartile_mean(finals)):.1f} "
        f"({low:.1f} to {high:.1f}) | {float(interquartile_mean(lasts)):.1f} | {seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", default=list(GOALS), metavar="EXPERIMENT")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    args = parser.parse_args()

    rows = [table_row(name, train_all(name, args.seeds)) for name in args.experiments]
    markdown = "\n".join(
        [
            f"{report.machine()}; seeds 0 to {args.seeds - 1}.",
            "",
            "| experiment | environment steps | goal | reached | final, IQM (95 % interval) "
            "| last evaluation, IQM | training, seconds |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )
    print("\n" + markdown)
    if not args.dry:
        report.write("learning", markdown)


if __name__ == "__main__":
    main()
