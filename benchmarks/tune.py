"""Measures searches: beside RL Baselines3 Zoo, fifty trials, and the overhead per trial.

    uv run python benchmarks/tune.py [zoo] [fifty] [overhead]

In the section `zoo`, the libraries alternate. Writes tables into `docs/benchmarks.md`. All sections
take about half an hour.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from unittest import mock

import optuna
import report

sys.path.insert(0, str(report.ROOT))

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.tuning import search
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.samplers import SamplerName
from dqnkit.workers.pool import WorkerPool
from tests import fake_training

EXPERIMENT = report.HERE / "search-cartpole.yaml"


def load_study(folder: str, name: str) -> optuna.Study:
    """Load a study that `dqnkit tune` wrote below a working directory."""
    path = f"{folder}/mlruns/studies/{name}.journal"
    backend = optuna.storages.journal.JournalFileBackend(path)
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def seconds_per_trial(study: optuna.Study) -> float:
    """Return the time from the start of the first trial to the end of the last, per trial."""
    ended = [t for t in study.trials if t.state.is_finished() and t.datetime_start]
    if any(t.state is not optuna.trial.TrialState.COMPLETE for t in ended):
        raise SystemExit(f"trials did not complete: {[t.state.name for t in study.trials]}")
    starts = [t.datetime_start.timestamp() for t in ended if t.datetime_start]
    ends = [t.datetime_complete.timestamp() for t in ended if t.datetime_complete]
    return (max(ends) - min(starts)) / len(ended)


# -- Beside RL Baselines3 Zoo


class Recipe(NamedTuple):
    """Settings with the same number of steps and updates in both libraries."""

    title: str
    zoo: tuple[str, ...]
    """Hyperparameters of `rl_zoo3.train`."""
    dqnkit: tuple[str, ...]
    """Arguments of `dqnkit tune`."""


RECIPES = (
    Recipe("an update per step", ("train_freq:1", "gradient_steps:1"), ()),
    Recipe(
        "128 updates every 256 steps, Zoo's settings",
        ("train_freq:256", "gradient_steps:128"),
        (
            *("--set", "training.num_iterations=9_500", "--set", "evaluation.eval_interval=950"),
            *("--set", "training.collect_steps_per_iteration=2"),
        ),
    ),
)


def zoo_search(recipe: Recipe, trials: int, processes: int) -> float:
    """Return the seconds per trial of RL-Zoo, which runs two trials at a time.

    Args:
      recipe: The settings.
      trials: Number of trials.
      processes: Number of processes that share one storage: 1 runs two threads, 2 one each.
    """
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        command = [
            *(report.make_interpreter("zoo"), "-W", "ignore", str(report.HERE / "zoo_search.py")),
            *("--algo", "dqn", "--env", "CartPole-v1", "-optimize", "-n", "20000"),
            *("--study-name", "bench", "--storage", storage),
            *("--n-trials", str(trials // processes), "--n-jobs", str(2 // processes)),
            *("--sampler", "random", "--pruner", "none"),
            *("--n-evaluations", "10", "--eval-episodes", "10", "--verbose", "0"),
            *("--log-folder", folder, "--num-threads", "1", "--hyperparams", *recipe.zoo),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        optuna.create_study(study_name="bench", storage=storage, direction="maximize")
        running = [
            subprocess.Popen(
                [*command, "--seed", str(seed)],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for seed in range(processes)
        ]
        for process in running:
            output, _ = process.communicate()
            if process.returncode != 0:
                raise SystemExit(f"RL-Zoo failed:\n{output[-3000:]}")
        return seconds_per_trial(optuna.load_study(study_name="bench", storage=storage))


def dqnkit_search(recipe: Recipe, trials: int) -> float:
    """Return the seconds per trial of `dqnkit tune` with two workers."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(report.DQNKIT, "tune", str(EXPERIMENT), "--study", "bench"),
            *("--trials", str(trials), "--workers", "2", "--confirm", "0", "--json"),
            *("--sampler", "random", "--pruner", "none", *recipe.dqnkit),
        ]
        report.run_command(command, folder=folder)
        return seconds_per_trial(load_study(folder, "bench"))


def zoo_section(rounds: int, trials: int) -> str:
    """Compare both libraries."""
    rows = []
    for recipe in RECIPES:
        threads: list[float] = []
        processes: list[float] = []
        dqnkit: list[float] = []
        for number in range(1, rounds + 1):
            threads.append(zoo_search(recipe, trials, processes=1))
            processes.append(zoo_search(recipe, trials, processes=2))
            dqnkit.append(dqnkit_search(recipe, 4 * trials))
            print(
                f"{recipe.title}, round {number}: seconds per trial: RL-Zoo, threads "
                f"{threads[-1]:.2f}, processes {processes[-1]:.2f}; dqnkit {dqnkit[-1]:.2f}",
                flush=True,
            )
        for name, seconds in (
            ("RL-Zoo, `-optimize --n-jobs 2`", threads),
            ("RL-Zoo, two processes on one storage", processes),
        ):
            median = f"{statistics.median(seconds):.1f}"
            rows.append((recipe.title, name, median, report.spread(report.ratios(seconds, dqnkit))))
        median = f"{statistics.median(dqnkit):.1f}"
        rows.append((recipe.title, "`dqnkit tune`, 2 workers", median, ""))
    return report.make_section(
        f"medians of {rounds} alternating rounds, ratios of each round (minimum to maximum)",
        ("updates", "search", "seconds per trial", "dqnkit is faster by"),
        rows,
    )


# -- Fifty trials


def fifty_section() -> str:
    """Measure whole searches of fifty trials."""
    rows = []
    for name, arguments in (
        ("`dqnkit tune benchmarks/search-cartpole.yaml --trials 50`", [str(EXPERIMENT)]),
        ("`dqnkit tune --trials 50`: `cartpole`, 401,000 steps per trial", []),
    ):
        with tempfile.TemporaryDirectory() as folder:
            command = [report.DQNKIT, "tune", *arguments, "--trials", "50", "--json"]
            start = time.perf_counter()
            result = json.loads(report.run_command(command, folder=folder))
            seconds = time.perf_counter() - start
        trials, score = result["trials"], result["confirmed"][0]["confirmed"]
        rows.append(
            (
                name,
                f"{seconds:.0f}",
                f"{result['search_seconds']:.0f}",
                f"{trials['complete']}, {trials['pruned']}",
                f"{score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f})",
            )
        )
        print(rows[-1], flush=True)
    return report.make_section(
        "whole processes, 15 confirming runs included",
        ("", "seconds", "of which the search", "complete, pruned", "the winner, confirmed"),
        rows,
    )


# -- Overhead

EVALUATIONS = 20
"""Number of evaluations of a trial."""
OVERHEAD_TRIALS = 500
SAMPLERS: tuple[SamplerName, ...] = ("tpe", "random")


def serve_rising_scores(*arguments: object) -> None:
    """Run a worker whose training is arithmetic, so that study and record take all the time.

    Each trial is better than all before it, and therefore never pruned.
    """

    def score(config: Config, run_name: str = "") -> float:
        del config
        found = re.search(r"-t(\d+)", run_name)
        assert found is not None, run_name
        return 1.0 + float(found[1])

    fake_training.score = score
    fake_training.serve(*arguments)  # type: ignore[arg-type]


def overheads(sampler: SamplerName, trials: int) -> list[float]:
    """Return the seconds from the end of each trial to the end of the next."""
    config = loading.load(
        str(EXPERIMENT),
        [f"training.num_iterations={EVALUATIONS}", "evaluation.eval_interval=1"],
    )
    make_pool = partial(WorkerPool, target=serve_rising_scores)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.object(search, "WorkerPool", make_pool),
    ):
        options = TuneOptions(trials=trials, workers=1, confirm=0, sampler=sampler, study="bench")
        search.tune(config, options)
        ended = load_study(folder, "bench").trials
    assert {trial.state.name for trial in ended} == {"COMPLETE"}
    ends = sorted(t.datetime_complete.timestamp() for t in ended if t.datetime_complete)
    return [end - start for start, end in itertools.pairwise(ends)]


def overhead_section(trials: int) -> str:
    """Measure the time per trial that the study and the record of runs take."""
    seconds = [overheads(sampler, trials) for sampler in SAMPLERS]
    tenth = trials // 10
    rows = []
    for start in (0, trials // 2, trials - tenth - 1):
        means = [f"{statistics.mean(each[start : start + tenth]):.3f}" for each in seconds]
        rows.append((f"{start + 1} to {start + tenth}", *means))
    return report.make_section(
        f"one worker, {EVALUATIONS} evaluations per trial, Hyperband, the embedded storages; "
        "seconds per trial",
        ("trials", *(f"`{sampler}`" for sampler in SAMPLERS)),
        rows,
    )


SECTIONS = {"overhead": "tune-overhead", "fifty": "tune-fifty", "zoo": "tune"}
"""Sections of `docs/benchmarks.md`, by argument."""


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", choices=SECTIONS)
    parser.add_argument("--rounds", type=report.positive_int, default=3, help="rounds of `zoo`")
    parser.add_argument(
        "--trials",
        type=report.positive_int,
        default=6,
        help="trials of RL-Zoo per round of `zoo`; dqnkit runs four times as many",
    )
    report.add_dry_option(parser)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    measurements: dict[str, Callable[[], str]] = {
        "overhead": lambda: overhead_section(OVERHEAD_TRIALS),
        "fifty": fifty_section,
        "zoo": lambda: zoo_section(args.rounds, args.trials),
    }
    for name in args.sections or SECTIONS:
        section = measurements[name]()
        print("\n" + section)
        if not args.dry:
            report.write_section(SECTIONS[name], section)


if __name__ == "__main__":
    main()
