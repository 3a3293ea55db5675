"""How long searches take: beside RL Baselines3 Zoo, fifty trials in all, a trial without training.

    uv run python benchmarks/tune.py [zoo] [fifty] [overhead]

Contestants alternate. Prints what it measures, and writes the tables of `docs/benchmarks.md`. It
takes about half an hour.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
import report

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.evaluation.episodes import Evaluation, late_episodes
from dqnkit.events import RunStatus
from dqnkit.processes.launcher import Launcher
from dqnkit.runs import descriptions
from dqnkit.tracking import make_tracker
from dqnkit.tracking.tracker import KIND_TAG, RunRecord
from dqnkit.tuning import search as tuning
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.samplers import SamplerName
from dqnkit.tuning.standing import SilentTuneReporter, Standing
from dqnkit.workers.messages import Advanced, Began, Ended, Evaluated, Ready
from dqnkit.workers.pool import WorkerPool

HERE = Path(__file__).resolve().parent
ZOO_ENVIRONMENT = HERE.parent / ".benchmarks" / "zoo"
EXPERIMENT = HERE / "search-cartpole.yaml"
DQNKIT = str(Path(sys.executable).with_name("dqnkit"))
EVALUATIONS = 20
"""Of a trial of the overhead benchmark."""


def zoo_python() -> str:
    """The interpreter of RL-Zoo's own environment, made on the first call."""
    python = ZOO_ENVIRONMENT / "bin" / "python"
    if not (ZOO_ENVIRONMENT / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ZOO_ENVIRONMENT)], check=True)
        requirements = str(HERE / "requirements-zoo.txt")
        subprocess.run([str(python), "-m", "pip", "install", "-qr", requirements], check=True)
        (ZOO_ENVIRONMENT / "ready").touch()
    return str(python)


def seconds_a_trial(study: optuna.Study) -> float:
    """From the start of the first trial to the end of the last, by the number of trials."""
    done = [t for t in study.trials if t.state.is_finished() and t.datetime_start]
    if any(t.state is not optuna.trial.TrialState.COMPLETE for t in done):
        raise SystemExit(f"trials did not complete: {[t.state.name for t in study.trials]}")
    starts = [t.datetime_start.timestamp() for t in done if t.datetime_start]
    ends = [t.datetime_complete.timestamp() for t in done if t.datetime_complete]
    return (max(ends) - min(starts)) / len(done)


EVERY_STEP = ("train_freq:1", "gradient_steps:1")
ZOOS_OWN = ("train_freq:256", "gradient_steps:128")
OURS = {
    EVERY_STEP: (),
    ZOOS_OWN: (
        *("--set", "training.num_iterations=9_500", "--set", "evaluation.eval_interval=950"),
        *("--set", "training.collect_steps_per_iteration=2"),
    ),
}
"""What makes the same number of steps and updates here."""


def zoo_search(recipe: tuple[str, ...], trials: int, processes: int) -> float:
    """RL-Zoo with two threads in one process, or with a process each on one storage."""
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        command = [zoo_python(), "-W", "ignore", str(HERE / "zoo_search.py"), "--algo", "dqn"]
        command += ["--env", "CartPole-v1", "-optimize", "-n", "20000", "--study-name", "bench"]
        command += ["--n-trials", str(trials // processes), "--n-jobs", str(2 // processes)]
        command += ["--sampler", "random", "--pruner", "none", "--storage", storage]
        command += ["--n-evaluations", "10", "--eval-episodes", "10", "--verbose", "0"]
        command += ["--log-folder", folder, "--num-threads", "1", "--hyperparams", *recipe]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        optuna.create_study(study_name="bench", storage=storage, direction="maximize")
        running = [
            subprocess.Popen(
                [*command, "--seed", str(number)],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for number in range(processes)
        ]
        for process in running:
            said, _ = process.communicate()
            if process.returncode != 0:
                raise SystemExit(f"RL-Zoo failed:\n{said[-3000:]}")
        return seconds_a_trial(optuna.load_study(study_name="bench", storage=storage))


def our_search(recipe: tuple[str, ...], trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [DQNKIT, "tune", str(EXPERIMENT), "--trials", str(trials), "--workers", "2"]
        command += ["--sampler", "random", "--pruner", "none", "--confirm", "0", "--json"]
        command += ["--study", "bench", *OURS[recipe]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"dqnkit failed:\n{done.stderr}")
        path = f"{folder}/mlruns/studies/bench.journal"
        backend = optuna.storages.journal.JournalFileBackend(path)
        storage = optuna.storages.JournalStorage(backend)
        return seconds_a_trial(optuna.load_study(study_name="bench", storage=storage))


def measure_zoo(rounds: int, trials: int) -> None:
    rows = []
    for recipe, title in (
        (EVERY_STEP, "an update a step"),
        (ZOOS_OWN, "128 updates every 256 steps, Zoo's settings"),
    ):
        times: dict[str, list[float]] = {"threads": [], "processes": [], "ours": []}
        for number in range(1, rounds + 1):
            times["threads"].append(zoo_search(recipe, trials, processes=1))
            times["processes"].append(zoo_search(recipe, trials, processes=2))
            times["ours"].append(our_search(recipe, 4 * trials))
            seconds = {name: round(each[-1], 2) for name, each in times.items()}
            print(f"{title}, round {number}:", seconds, flush=True)
        rows += _rows(title, times)
    head = (
        f"{report.machine()}; medians of {rounds} alternating rounds, ratios of each round (least "
        "to greatest).\n\n| updates | search | seconds a trial | dqnkit is faster by |\n"
        "|---|---|---|---|"
    )
    report.write("tune", "\n".join([head, *rows]))


def _rows(updates: str, times: dict[str, list[float]]) -> list[str]:
    rows = []
    for name, title in (
        ("threads", "RL-Zoo, `-optimize --n-jobs 2`"),
        ("processes", "RL-Zoo, two processes on one storage"),
    ):
        ratios = [theirs / ours for theirs, ours in zip(times[name], times["ours"], strict=True)]
        middle = statistics.median(ratios)
        rows.append(
            f"| {updates} | {title} | {statistics.median(times[name]):.1f} | {middle:.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f}) |"
        )
    ours = statistics.median(times["ours"])
    return [*rows, f"| {updates} | `dqnkit tune`, 2 workers | {ours:.1f} | |"]


def measure_fifty() -> None:
    rows = []
    for name, arguments in (
        ("`dqnkit tune benchmarks/search-cartpole.yaml --trials 50`", [str(EXPERIMENT)]),
        ("`dqnkit tune --trials 50`: `cartpole`, 401,000 steps a trial", []),
    ):
        with tempfile.TemporaryDirectory() as folder:
            command = [DQNKIT, "tune", *arguments, "--trials", "50", "--json"]
            start = time.perf_counter()
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - start
        result = json.loads(done.stdout)
        trials, best = result["trials"], result["confirmed"][0]
        low, high = best["confirmed"]["low"], best["confirmed"]["high"]
        rows.append(
            f"| {name} | {seconds:.0f} | {result['search_seconds']:.0f} | {trials['complete']}, "
            f"{trials['pruned']} | {best['confirmed']['value']:.1f} ({low:.1f} to {high:.1f}) |"
        )
        print(rows[-1], flush=True)
    head = (
        f"{report.machine()}; whole processes, 15 confirming runs included.\n\n"
        "| | seconds | of these, the search | complete, pruned | the winner, confirmed |\n"
        "|---|---|---|---|---|"
    )
    report.write("tune-fifty", "\n".join([head, *rows]))


def trivial_worker(connection: Connection, *_: object) -> None:
    """A worker whose trainings cost nothing: what is left is the study and the record.

    Each trial is better than all before it, so that none is pruned.
    """
    number = 0
    while True:
        connection.send(Ready())
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        number += 1
        config: Config = task.config
        tracker = make_tracker(config, task.tracking_uri, task.belongs_to)
        tags = {**descriptions.tags(config), KIND_TAG: "training"}
        tracker.start(RunRecord(config.name, task.run_name, config.flat(), tags))
        connection.send(Began(tracker.run_id))
        evaluations: list[Evaluation] = []
        for each in range(EVALUATIONS + 1):
            value = float(number + each / 100)
            evaluation = Evaluation(
                returns=(value,) * 10, lengths=(10,) * 10, iteration=each, env_steps=each
            )
            evaluations.append(evaluation)
            tracker.log({"eval/return_mean": value, "eval/return_iqm": value}, each)
            tracker.log({"train/loss": value, "train/epsilon": 0.1}, each)
            asks = 0 < each < EVALUATIONS
            connection.send(Advanced(each, each, 1.0))
            connection.send(Evaluated(evaluation, late_episodes(evaluations), asks))
            if asks:
                connection.recv()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.yaml").write_text(loading.dump(config))
            tracker.artifacts(Path(folder))
        problems = tracker.finish(RunStatus.FINISHED)
        late, last = late_episodes(evaluations), evaluations[-1]
        ended = Ended(
            run_id=tracker.run_id,
            run_name=task.run_name,
            status=RunStatus.FINISHED,
            env_steps=EVALUATIONS,
            seconds=0.0,
            steps_per_second=1.0,
            evaluations=tuple(evaluations),
            late=late,
            best=last,
            final=last,
            problems=tuple(problems),
        )
        connection.send(ended)


class _TrivialPool(WorkerPool):
    def __init__(self, size: int, launcher: Launcher | None = None) -> None:
        super().__init__(size, trivial_worker, launcher)


class _Clock(SilentTuneReporter):
    """When each trial ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def ended(self, number: int, state: str, value: float | None, standing: Standing) -> None:
        del number, value, standing
        assert state == "complete"
        self.ends.append(time.perf_counter())


def overheads(sampler: SamplerName, trials: int) -> list[float]:
    """Seconds from the end of each trial to the end of the next."""
    config = loading.load(
        str(EXPERIMENT),
        [f"training.num_iterations={EVALUATIONS}", "evaluation.eval_interval=1"],
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tuning.Pool = _TrivialPool  # type: ignore[misc]  # the one thing that is not as ever
        options = TuneOptions(trials=trials, workers=1, confirm=0, sampler=sampler)
        tuning.tune(config, options, reporter=clock)
        os.chdir(HERE)
    return [end - start for start, end in itertools.pairwise(clock.ends)]


def measure_overhead(trials: int) -> None:
    by_sampler: dict[SamplerName, list[float]] = {
        "tpe": overheads("tpe", trials),
        "random": overheads("random", trials),
    }
    tenth = trials // 10
    rows = []
    for start in (0, trials // 2, trials - tenth - 1):
        means = [statistics.mean(each[start : start + tenth]) for each in by_sampler.values()]
        rows.append(f"| {start + 1} to {start + tenth} | {means[0]:.3f} | {means[1]:.3f} |")
    head = (
        f"{report.machine()}; one worker, {EVALUATIONS} evaluations a trial, Hyperband, the "
        "embedded storages; seconds a trial.\n\n| trials | `tpe` | `random` |\n|---|---|---|"
    )
    print("\n".join(rows))
    report.write("tune-overhead", "\n".join([head, *rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["zoo", "fifty", "overhead"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--trials", type=int, default=6, help="of RL-Zoo in a round; ours four times as many"
    )
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if "overhead" in given.what:
        measure_overhead(500)
    if "fifty" in given.what:
        measure_fifty()
    if "zoo" in given.what:
        measure_zoo(given.rounds, given.trials)


if __name__ == "__main__":
    main()
