"""Measures searches that several hosts share, and the load on their servers.

    uv run python benchmarks/distributed.py hosts      # needs root, iproute2 and postgresql
    uv run python benchmarks/distributed.py nodes      # needs the extra `ray`
    uv run python benchmarks/distributed.py trials     # needs postgresql
    uv run python benchmarks/distributed.py workers    # needs postgresql

`hosts` runs 60 trials of a short real training on three hosts, which are network namespaces of this
machine, with PostgreSQL and MLflow outside them; one host is cut off in the middle, and one joins
late. `nodes` runs the same 60 trials on a Ray cluster of three nodes, one of which is killed.
`trials` measures the calls of Optuna in studies of 1 to 10,000 trials. `workers` runs 1 to 32
processes whose trials only sleep. The results are printed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import report

sys.path.insert(0, str(report.ROOT))

import optuna
from optuna.trial import TrialState, create_trial

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.evaluation.formatting import markdown_row, markdown_table
from dqnkit.tuning.catalog import open_study
from dqnkit.tuning.definition import StudyDefinition
from dqnkit.tuning.samplers import SamplerName, make_pruner, make_sampler
from dqnkit.tuning.space_factory import make_space
from dqnkit.tuning.storage import StudyStorage, locate_storage
from dqnkit.tuning.study import SharedStudy, StudyPlan
from tests import distributed
from tests.postgres import PostgresServer

NUM_TRIALS = 60
"""Number of trials of `hosts` and `nodes`."""
STUDY_SIZES = (1, 10, 100, 1_000, 10_000)
NUM_WORKERS = (1, 2, 4, 8, 16, 32)
REPORTS = 10
"""Number of values that a trial reports."""
MEASURED_TRIALS = 15
"""Number of trials of which `trials` takes the median."""
SLEEP_SECONDS = 1.0
"""Duration of a trial of `workers`."""
WORKERS_SECONDS = 20.0
"""Duration of each measurement of `workers`."""


def main() -> None:
    measurements = {"hosts": hosts, "nodes": nodes, "trials": trials, "workers": workers}
    parser = report.make_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=measurements)
    for name in parser.parse_args().names or measurements:
        measurements[name]()
    print(report.machine())


# -- Whole searches


def hosts() -> None:
    """Run a search on three hosts and print its outcome."""
    with tempfile.TemporaryDirectory() as folder, distributed.site(Path(folder)) as site:
        first, second, third = (site.network.add(name) for name in ("host1", "host2", "host3"))
        start, seconds_before = time.monotonic(), _server_seconds(site)
        site.start(first, NUM_TRIALS)
        site.start(second, NUM_TRIALS)
        distributed.wait_until(lambda: site.ended() >= NUM_TRIALS // 3, "a third of the trials")
        second.disconnect()
        cut_off_after, ended_then = time.monotonic() - start, site.ended()
        distributed.wait_until(lambda: site.ended() >= NUM_TRIALS // 2, "half of the trials")
        site.start(third, NUM_TRIALS)
        joined_after = time.monotonic() - start
        codes = [first.wait(1_800), third.wait(1_800)]
        duration = time.monotonic() - start
        counts = distributed.check(site, NUM_TRIALS)
        used = {
            name: seconds - seconds_before[name] for name, seconds in _server_seconds(site).items()
        }
    print(
        f"host2 was cut off after {cut_off_after:.0f} s and {ended_then} trials, host3 joined "
        f"after {joined_after:.0f} s"
    )
    print(f"exit codes {codes}, {duration:.0f} s in total; {counts}")
    for name, seconds in used.items():
        print(f"{name}: {seconds:.1f} CPU seconds, {seconds / counts['runs']:.2f} per run")


def _server_seconds(site: distributed.Site) -> dict[str, float]:
    """Return the CPU seconds that each server has used so far."""
    assert site.tracking._process is not None
    mlflow = _cpu_seconds(psutil.Process(site.tracking._process.pid))
    return {"PostgreSQL": _postgres_seconds(site.database), "MLflow": mlflow}


def _postgres_seconds(server: PostgresServer) -> float:
    folder = str(server.folder)
    return sum(_cpu_seconds(p) for p in psutil.process_iter() if folder in _command_line(p))


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children, including those that have ended."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def nodes() -> None:
    """Run a search on three nodes of Ray, kill one, and print the outcome."""
    from tests.test_ray import Cluster

    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cluster = Cluster()
        cluster.add()
        cluster.add()
        settings = [f"{key}={value}" for key, value in distributed.SETTINGS.items()]
        options = [part for setting in settings for part in ("--set", setting)]
        start = time.monotonic()
        with Path("output.txt").open("w", encoding="utf-8") as output:
            search = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cli.main", "tune", "tutorial", "--study", "s"),
                    *("--trials", str(NUM_TRIALS), "--confirm", "1", "--launcher", "ray"),
                    *("--ray-address", cluster.address, *options),
                ],
                env={**os.environ, "PYTHONPATH": str(report.ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        distributed.wait_until(lambda: _num_ended("s") >= NUM_TRIALS // 3, "a third of the trials")
        distributed.wait_until(lambda: _has_worker(cluster.nodes[2]), "a worker on the third node")
        cluster.lose(2)
        killed_after = time.monotonic() - start
        code = search.wait(1_800)
        duration = time.monotonic() - start
        states = Counter(trial.state.name for trial in _load_study("s").trials)
        points = _check_runs(_load_study("s"))
        cluster.stop()
    print(
        f"one of three nodes was killed after {killed_after:.0f} s; exit code {code}, "
        f"{duration:.0f} s in total"
    )
    print(dict(sorted(states.items())), f"{points} points")


def _has_worker(node: set[psutil.Process]) -> bool:
    children = [c for p in node if p.is_running() for c in p.children(recursive=True)]
    return any("ray::dqnkit" in _command_line(child) for child in children)


def _load_study(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=locate_storage(None).open(name))


def _num_ended(name: str) -> int:
    if name not in locate_storage(None).study_names():
        return 0
    return sum(trial.state in distributed.ENDED for trial in _load_study(name).trials)


def _check_runs(study: optuna.Study) -> int:
    """Check that every run has ended with all its points, and return the number of points."""
    from tests.processes import points, runs

    by_id = {run.info.run_id: run for run in runs()}
    assert "RUNNING" not in {run.info.status for run in by_id.values()}
    total = 0
    for trial in study.trials:
        if trial.state in distributed.ENDED:
            found = points(by_id[trial.user_attrs["run_id"]])
            assert len(found["eval/return_mean"]) == len(trial.intermediate_values) + 1
            total += sum(map(len, found.values()))
    return total


# -- The storage alone


def _definition() -> StudyDefinition:
    config, _ = resolve(loading.load("tutorial"))
    return StudyDefinition(config, make_space(config), 1)


def _open(place: StudyStorage, name: str, sampler: SamplerName, seed: int = 0) -> SharedStudy:
    """Open a study with the sampler and pruner of `dqnkit tune`, and without an end."""
    plan = StudyPlan(
        1_000_000,
        lambda salt: make_sampler(sampler, seed, salt + seed),
        make_pruner("hyperband", REPORTS, 1),
    )
    return open_study(place, name, _definition(), plan)


def _fill(shared: SharedStudy, size: int) -> None:
    """Add completed trials with plausible values to a study."""
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    searched = _definition().space
    made = []
    for number in range(size):
        trial = source.ask()
        searched.suggest(trial)
        value = float(trial.params["optimizer.learning_rate"]) * 1e4 + number % 7
        made.append(
            create_trial(
                state=TrialState.COMPLETE,
                params=trial.params,
                distributions=trial.distributions,
                value=value,
                intermediate_values={step + 1: value * (step + 1) for step in range(REPORTS)},
            )
        )
    shared.study.add_trials(made)


def trials() -> None:
    """Print the milliseconds of each call by the number of trials in the study."""
    server = PostgresServer()
    server.start()
    header = ("storage, sampler", "trials", "open", "ask", "report", "should_prune", "tell")
    print(markdown_table(header, []))
    variants: tuple[tuple[str, SamplerName], ...] = (
        ("PostgreSQL", "random"),
        ("PostgreSQL", "tpe"),
        ("journal", "tpe"),
    )
    try:
        for kind, sampler in variants:
            for size in STUDY_SIZES:
                with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                    url = server.url(server.make_database()) if kind == "PostgreSQL" else None
                    _fill(_open(locate_storage(url), "s", sampler), size)
                    cells = [f"{x:.1f}" for x in _time_calls(url, sampler)]
                    print(markdown_row([f"{kind}, {sampler}", f"{size:,}", *cells]), flush=True)
    finally:
        server.remove()


def _time_calls(url: str | None, sampler: SamplerName) -> list[float]:
    """Return the milliseconds to open a study, and the medians of the other calls."""
    milliseconds: dict[str, list[float]] = {
        name: [] for name in ("ask", "report", "should_prune", "tell")
    }

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        milliseconds[name].append(1_000 * (time.perf_counter() - start))
        return result

    start = time.perf_counter()
    shared = _open(locate_storage(url), "s", sampler)
    shared.trials()
    opening = 1_000 * (time.perf_counter() - start)
    for _ in range(MEASURED_TRIALS):
        claim = timed("ask", shared.ask)
        for step in range(1, REPORTS + 1):
            timed("report", partial(shared.report, claim, float(step), step))
            timed("should_prune", claim.trial.should_prune)
        timed("tell", partial(shared.tell, claim, 1.0))
    return [opening, *map(statistics.median, milliseconds.values())]


def workers() -> None:
    """Print trials per second by the number of processes, and the CPU time that they use."""
    server = PostgresServer()
    server.start()
    header = (
        "workers",
        "trials per second",
        "share of the maximum",
        "cores of PostgreSQL",
        "cores of the workers",
    )
    print(markdown_table(header, []))
    context = multiprocessing.get_context("spawn")
    try:
        for count in NUM_WORKERS:
            url = server.url(server.make_database())
            _fill(_open(locate_storage(url), "s", "tpe"), 100)
            barrier, results = context.Barrier(count + 1), context.Queue()
            started = [
                context.Process(target=_sleeping_worker, args=(url, number, barrier, results))
                for number in range(count)
            ]
            for process in started:
                process.start()
            barrier.wait()
            start, server_before = time.monotonic(), _postgres_seconds(server)
            ended, worker_seconds = map(sum, zip(*[results.get() for _ in started], strict=True))
            duration = time.monotonic() - start
            server_seconds = _postgres_seconds(server) - server_before
            for process in started:
                process.join()
            rate = ended / duration
            cells = [
                str(count),
                f"{rate:.2f}",
                f"{rate * SLEEP_SECONDS / count:.0%}",
                f"{server_seconds / duration:.2f}",
                f"{worker_seconds / duration:.2f}",
            ]
            print(markdown_row(cells), flush=True)
    finally:
        server.remove()


def _sleeping_worker(url: str, number: int, barrier: Any, results: Any) -> None:
    """Run trials that sleep, as a host with one worker."""
    shared = _open(locate_storage(url), "s", "tpe", number + 1)
    barrier.wait()
    ended, deadline = 0, time.monotonic() + WORKERS_SECONDS
    cpu_seconds_before = time.process_time()
    while time.monotonic() < deadline:
        claim = shared.ask()
        assert claim is not None
        for step in range(1, REPORTS + 1):
            time.sleep(SLEEP_SECONDS / REPORTS)
            shared.report(claim, float(number), step)
            claim.trial.should_prune()
        shared.trials()  # which `dqnkit tune` reads after each trial to show the standing
        ended += shared.tell(claim, float(number))
    results.put((ended, time.process_time() - cpu_seconds_before))


if __name__ == "__main__":
    main()
