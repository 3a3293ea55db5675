"""What is learnt over ten seeds.

    uv run python benchmarks/learning.py [EXPERIMENT ...]
    uv run python benchmarks/learning.py --family [VARIANT ...] [--task TASK]

Trains each experiment with ten seeds that no search has used, in as many processes as there are
cores, prints a line a seed, and writes the experiment's row in `docs/benchmarks.md`; rows of other
experiments stay as they are. `tutorial-reverb` has a table of its own, and is trained where Reverb
is (docs/reverb.md). With `--family` a row is an agent on one of three tasks that RL
Baselines3 Zoo publishes scores for, with the same budgets of environment steps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec

import family
import numpy as np
import report

from dqnkit.config import loading
from dqnkit.evaluation.aggregates import bootstrap_interval, interquartile_mean
from dqnkit.runs.result import TrainResult
from dqnkit.runs.trainer import train

GOALS = {
    "tutorial": 195.0,
    "tutorial-reverb": 195.0,
    "cartpole": 500.0,
    "acrobot": -100.0,
    "mountain-car": -110.0,
    "lunar-lander": 200.0,
    "frozen-lake": 0.7,
    "minatar-breakout": 5.0,
}
"""Mean return of an evaluation that counts as reached: the tutorial's, the maximum, the thresholds
that Gymnasium registers, and for MinAtar five points."""
_SOLVED = 475.0
"""The threshold that Gymnasium registers for CartPole-v1."""


def train_one(name: str, assignments: tuple[str, ...], seed: int) -> TrainResult:
    result = train(loading.load(name, [*assignments, f"training.seed={seed}"]))
    row = {
        "experiment": name,
        "assignments": assignments,
        "seed": seed,
        "best": result.best.summary.mean,
        "last": result.last.summary.mean,
        "final": result.final.summary.mean,
        "env_steps": result.env_steps,
        "training_seconds": round(result.training_seconds, 2),
        "compile_seconds": round(result.compile_seconds, 2),
    }
    print(json.dumps(row), flush=True)
    return result


def train_all(
    pool: Executor, name: str, assignments: tuple[str, ...], seeds: int
) -> list[TrainResult]:
    return list(pool.map(partial(train_one, name, assignments), range(seeds)))


def interval(scores: np.ndarray, digits: int = 1) -> str:
    low, high = bootstrap_interval(scores)
    middle = float(interquartile_mean(scores))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table_row(name: str, results: list[TrainResult]) -> str:
    config = loading.load(name)
    goal = GOALS[name]
    reached = sum(result.best.summary.mean >= goal for result in results)
    finals = np.array([result.final.summary.mean for result in results])
    lasts = np.array([result.last.summary.mean for result in results])
    digits = 3 if abs(goal) < 1 else 1
    seconds = statistics.median(result.training_seconds for result in results)
    return (
        f"| `{name}` ({config.env.id}) | {results[0].env_steps:,} | {goal:g} "
        f"| {reached} of {len(results)} | {interval(finals, digits)} "
        f"| {float(interquartile_mean(lasts)):.{digits}f} | {seconds:.0f} |"
    )


def family_row(variant: str, task: family.Task, results: list[TrainResult]) -> str:
    assert all(result.env_steps <= task.env_steps for result in results), task
    finals = np.array([result.final.summary.mean for result in results])
    lasts = np.array([result.last.summary.mean for result in results])
    solved = ""
    if task.env_id == "CartPole-v1":
        solved = f"{np.count_nonzero(finals >= _SOLVED)} of {len(results)}"
    return (
        f"| {task.env_id} | {variant} | {interval(finals)} | {solved} "
        f"| {float(interquartile_mean(lasts)):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments, or variants")
    parser.add_argument("--family", action="store_true", help="agents on RL-Zoo's three tasks")
    parser.add_argument("--task", action="append", choices=family.TASKS, help="of the family")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    parser.add_argument("--dry", action="store_true", help="print the rows, write nothing")
    args = parser.parse_args()
    has_reverb = find_spec("reverb") is not None
    goals = [name for name in GOALS if has_reverb or "reverb" not in name]
    known = [family.RAINBOW, *family.VARIANTS] if args.family else goals
    if unknown := set(args.names) - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")

    header = f"{report.machine()}; seeds 0 to {args.seeds - 1}, {args.jobs} at a time."
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool:
        for name in args.names or known:
            for task in args.task or family.TASKS if args.family else ("",):
                if args.family:
                    what = family.TASKS[task]
                    results = train_all(pool, *family.work(name, what), args.seeds)
                    section, row = "family", family_row(name, what, results)
                    start = f"| {what.env_id} | {name} |"
                else:
                    results = train_all(pool, name, (), args.seeds)
                    section = "reverb-learning" if "reverb" in name else "learning"
                    row, start = table_row(name, results), f"| `{name}`"
                print("\n" + row, flush=True)
                if not args.dry:
                    report.write_row(section, header, start, row)


if __name__ == "__main__":
    main()
