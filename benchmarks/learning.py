"""What the committed experiments learn, over ten seeds.

    uv run python benchmarks/learning.py [EXPERIMENT ...]

Trains each experiment with ten seeds that no search has used, in as many processes as there are
cores, prints a line a seed, and writes the experiment's row in `docs/benchmarks.md`; rows of other
experiments stay as they are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import report

from dqnkit import experiments
from dqnkit.statistics import bootstrap_interval, interquartile_mean
from dqnkit.training.run import TrainResult, train

GOALS = {
    "tutorial": 195.0,
    "cartpole": 500.0,
    "acrobot": -100.0,
    "mountain-car": -110.0,
    "lunar-lander": 200.0,
    "frozen-lake": 0.7,
    "minatar-breakout": 5.0,
}
"""Mean return of an evaluation that counts as reached: the tutorial's, the maximum, the thresholds
that Gymnasium registers, and for MinAtar five points."""


def train_one(name: str, seed: int) -> TrainResult:
    result = train(experiments.load(name, [f"training.seed={seed}"]))
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
    return result


def table_row(name: str, results: list[TrainResult]) -> str:
    config = experiments.load(name)
    goal = GOALS[name]
    reached = sum(result.best.summary.mean >= goal for result in results)
    finals = np.array([result.final.summary.mean for result in results])
    lasts = np.array([result.last.summary.mean for result in results])
    low, high = bootstrap_interval(finals)
    digits = 3 if abs(goal) < 1 else 1
    seconds = statistics.median(result.training_seconds for result in results)
    return (
        f"| `{name}` ({config.env.id}) | {results[0].env_steps:,} | {goal:g} "
        f"| {reached} of {len(results)} | {float(interquartile_mean(finals)):.{digits}f} "
        f"({low:.{digits}f} to {high:.{digits}f}) | {float(interquartile_mean(lasts)):.{digits}f} "
        f"| {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", default=list(GOALS), metavar="EXPERIMENT")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    parser.add_argument("--dry", action="store_true", help="print the rows, write nothing")
    args = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool:
        for name in args.experiments:
            results = list(pool.map(train_one, [name] * args.seeds, range(args.seeds)))
            row = table_row(name, results)
            print("\n" + row, flush=True)
            if not args.dry:
                header = f"{report.machine()}; seeds 0 to {args.seeds - 1}, {args.jobs} at a time."
                report.write_row("learning", header, f"| `{name}`", row)


if __name__ == "__main__":
    main()
