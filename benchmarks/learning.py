"""Measures the scores that experiments reach over ten seeds.

    uv run python benchmarks/learning.py [EXPERIMENT ...]
    uv run python benchmarks/learning.py --family [VARIANT ...] [--task TASK]

Trains each experiment with ten seeds that no search has used, in one process per core. Prints one
line per seed and replaces the row of the experiment in `docs/benchmarks.md`. `tutorial-reverb` has
a table of its own and needs the environment of docs/reverb.md. With `--family`, each row is a
variant of DQN on one of three tasks for which RL Baselines3 Zoo publishes scores, with the same
number of environment steps.
"""

from __future__ import annotations

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
from dqnkit.evaluation.formatting import markdown_row
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
"""Mean return at which an experiment has reached its goal: that of the tutorial, CartPole-v1's
maximum, the thresholds that Gymnasium registers, and five points for MinAtar."""
CARTPOLE_THRESHOLD = 475.0
"""Return at which Gymnasium considers CartPole-v1 solved."""


def train_one(name: str, assignments: tuple[str, ...], seed: int) -> TrainResult:
    """Train one seed of an experiment and print its scores as JSON."""
    result = train(loading.load(name, [*assignments, f"training.seed={seed}"]))
    scores = {
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
    print(json.dumps(scores), flush=True)
    return result


def train_all(
    pool: Executor, name: str, assignments: tuple[str, ...], seeds: int
) -> list[TrainResult]:
    """Train several seeds of an experiment in parallel."""
    return list(pool.map(partial(train_one, name, assignments), range(seeds)))


def final_means(results: list[TrainResult]) -> np.ndarray:
    return np.array([result.final.summary.mean for result in results])


def last_iqm(results: list[TrainResult]) -> float:
    """Return the interquartile mean, over the seeds, of the last evaluation during training."""
    return float(interquartile_mean(np.array([result.last.summary.mean for result in results])))


def iqm_with_interval(scores: np.ndarray, digits: int = 1) -> str:
    low, high = bootstrap_interval(scores)
    iqm = float(interquartile_mean(scores))
    return f"{iqm:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def experiment_row(name: str, results: list[TrainResult]) -> str:
    """Return the row of an experiment."""
    config = loading.load(name)
    goal = GOALS[name]
    reached = sum(result.best.summary.mean >= goal for result in results)
    digits = 3 if abs(goal) < 1 else 1
    seconds = statistics.median(result.training_seconds for result in results)
    cells = [
        f"`{name}` ({config.env.id})",
        f"{results[0].env_steps:,}",
        f"{goal:g}",
        f"{reached} of {len(results)}",
        iqm_with_interval(final_means(results), digits),
        f"{last_iqm(results):.{digits}f}",
        f"{seconds:.0f}",
    ]
    return markdown_row(cells)


def family_row(variant: str, task: family.Task, results: list[TrainResult]) -> str:
    """Return the row of a variant on a task."""
    assert all(result.env_steps <= task.env_steps for result in results), task
    finals = final_means(results)
    solved = ""
    if task.env_id == "CartPole-v1":
        solved = f"{np.count_nonzero(finals >= CARTPOLE_THRESHOLD)} of {len(results)}"
    cells = [task.env_id, variant, iqm_with_interval(finals), solved, f"{last_iqm(results):.1f}"]
    return markdown_row(cells)


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments, or variants")
    parser.add_argument("--family", action="store_true", help="train variants on RL-Zoo's tasks")
    parser.add_argument(
        "--task", action="append", choices=family.TASKS, help="only this task of the family"
    )
    parser.add_argument("--seeds", type=report.positive_int, default=10)
    parser.add_argument(
        "--jobs", type=report.positive_int, default=os.cpu_count(), help="parallel processes"
    )
    report.add_dry_option(parser)
    args = parser.parse_args()
    has_reverb = find_spec("reverb") is not None
    experiments = [name for name in GOALS if has_reverb or "reverb" not in name]
    known = [family.RAINBOW, *family.VARIANTS] if args.family else experiments
    if unknown := sorted(set(args.names) - set(known)):
        kind = "variants" if args.family else "experiments"
        parser.error(f"unknown {kind}: {', '.join(unknown)} (choose from {', '.join(known)})")
    if args.task and not args.family:
        parser.error("--task is an option of --family")

    first_line = f"{report.machine()}; seeds 0 to {args.seeds - 1}, {args.jobs} at a time."

    def write(section: str, start: str, row: str) -> None:
        print("\n" + row, flush=True)
        if not args.dry:
            report.write_row(section, first_line, start, row)

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=spawn) as pool:
        for name in args.names or known:
            if args.family:
                for task in [family.TASKS[key] for key in args.task or family.TASKS]:
                    results = train_all(pool, *family.experiment_of(name, task), args.seeds)
                    row = family_row(name, task, results)
                    write("family", markdown_row([task.env_id, name]), row)
            else:
                results = train_all(pool, name, (), args.seeds)
                section = "reverb-learning" if "reverb" in name else "learning"
                write(section, f"| `{name}`", experiment_row(name, results))


if __name__ == "__main__":
    main()
