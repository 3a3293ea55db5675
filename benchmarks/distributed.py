"""One search on several hosts: what becomes of it, and what its servers carry.

uv run python benchmarks/distributed.py hosts      # root, iproute2, postgresql
uv run python benchmarks/distributed.py nodes
uv run python benchmarks/distributed.py trials     # postgresql
uv run python benchmarks/distributed.py workers    # postgresql

`hosts`: three network namespaces, PostgreSQL and MLflow on the machine itself; 60 trials of a short
real training, one host cut off in the middle, one that joins late. `nodes`: the same 60 on a Ray
cluster of three nodes, of which one is killed. `trials`: one ask, report and tell in studies of 1
to 10,000 trials. `workers`: 1 to 32 processes whose trials only sleep.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import optuna
from optuna.trial import TrialState, create_trial

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.tuning import space, storage
from dqnkit.tuning.samplers import SamplerName, make_pruner, make_sampler
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.study import SharedStudy, StudyDefinition, StudyPlan, open_study
from tests import distributed
from tests.postgres import PostgresServer

TRIALS = 60
SIZES = (1, 10, 100, 1_000, 10_000)
WORKERS = (1, 2, 4, 8, 16, 32)
REPORTS = 10
"""Evaluations a trial."""
ASKED = 15
"""Trials that a median is taken of."""
SLEEP = 1.0
"""Seconds that a trial sleeps, a report after each tenth."""
LASTS = 20.0


def main() -> None:
    what = {"hosts": hosts, "nodes": nodes, "trials": trials, "workers": workers}
    for name in sys.argv[1:] or list(what):
        what[name]()
    print(report.machine())


# -- Whole searches


def hosts() -> None:
    """Prints what became of 60 trials on three hosts."""
    with tempfile.TemporaryDirectory() as folder, distributed.site(Path(folder)) as at:
        one, two, three = (at.network.add(name) for name in ("host1", "host2", "host3"))
        start, before = time.monotonic(), _seconds(at)
        at.start(one, TRIALS)
        at.start(two, TRIALS)
        distributed.wait_until(lambda: at.ended() >= TRIALS // 3, "a third")
        two.cut_off()
        cut, at_cut = time.monotonic() - start, at.ended()
        distributed.wait_until(lambda: at.ended() >= TRIALS // 2, "half")
        at.start(three, TRIALS)
        joined = time.monotonic() - start
        codes = [one.wait(1_800), three.wait(1_800)]
        took = time.monotonic() - start
        counted = distributed.check(at, TRIALS)
        used = {name: after - before[name] for name, after in _seconds(at).items()}
    print(f"host2 cut off after {cut:.0f} s and {at_cut} trials, host3 joined after {joined:.0f} s")
    print(f"exit codes {codes}, {took:.0f} s in all; {counted}")
    for name, seconds in used.items():
        print(f"{name}: {seconds:.1f} CPU seconds, {seconds / counted['runs']:.2f} a run")


def _seconds(at: distributed.Site) -> dict[str, float]:
    """CPU seconds of the servers until now, by name."""
    assert at.tracking._process is not None
    found = {"PostgreSQL": 0.0, "MLflow": _tree(psutil.Process(at.tracking._process.pid))}
    for process in psutil.process_iter():
        if str(at.database.folder) in " ".join(_command(process)):
            found["PostgreSQL"] = _tree(process)
    return found


def _tree(process: psutil.Process) -> float:
    """CPU seconds of a process and of its children, those that have ended too."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def nodes() -> None:
    """Prints what became of 60 trials on three nodes of Ray."""
    from tests.test_ray import Cluster, _holds_a_task

    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        cluster = Cluster()
        cluster.add()
        cluster.add()
        settings = [f"{key}={value}" for key, value in distributed.SETTINGS.items()]
        options = [part for setting in settings for part in ("--set", setting)]
        start = time.monotonic()
        with Path("said.txt").open("w", encoding="utf-8") as said:
            search = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cli.main", "tune", "tutorial", "--study", "s"),
                    *("--trials", str(TRIALS), "--confirm", "1", "--launcher", "ray"),
                    *("--ray-address", cluster.address, *options),
                ],
                env={**os.environ, "PYTHONPATH": str(distributed.ROOT)},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        distributed.wait_until(lambda: _ended("s") >= TRIALS // 3, "a third")
        distributed.wait_until(lambda: _holds_a_task(cluster.nodes[2]), "a task of the third node")
        cluster.lose(2)
        lost = time.monotonic() - start
        code = search.wait(1_800)
        took = time.monotonic() - start
        states = [trial.state.name for trial in _study("s").trials]
        points = _check_runs(_study("s"))
        cluster.stop()
    print(f"one of three nodes killed after {lost:.0f} s; exit code {code}, {took:.0f} s in all")
    print({state: states.count(state) for state in sorted(set(states))}, f"{points} points")


def _study(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage.resolve(None).open(name))


def _ended(name: str) -> int:
    if name not in storage.resolve(None).names():
        return 0
    return sum(trial.state in distributed.ENDED for trial in _study(name).trials)


def _check_runs(study: optuna.Study) -> int:
    """That no run is RUNNING, and each ended trial has a point for each of its evaluations."""
    from tests.processes import client, points, runs

    by_id = {run.info.run_id: run for run in runs()}
    assert "RUNNING" not in {run.info.status for run in by_id.values()}
    total = 0
    for trial in study.trials:
        if trial.state in distributed.ENDED:
            found = points(by_id[trial.user_attrs["run_id"]])
            assert len(found["eval/return_mean"]) == len(trial.intermediate_values) + 1
            total += sum(map(len, found.values()))
    assert client()
    return total


# -- The storage alone


def _purpose() -> StudyDefinition:
    config, _ = resolve(loading.load("tutorial"))
    return StudyDefinition(config, space.of(config), 1)


def _open(place: StudyStorage, name: str, sampler: SamplerName, number: int = 0) -> SharedStudy:
    """A study that asks as `dqnkit tune` does, and never ends."""
    make = partial(make_sampler, sampler, number)
    plan = StudyPlan(
        1_000_000, lambda salt: make(salt + number), make_pruner("hyperband", REPORTS, 1)
    )
    return open_study(place, name, _purpose(), plan)


def _fill(shared: SharedStudy, size: int) -> None:
    """Ended trials, as many as are wanted, with values that a search might have."""
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    made = []
    for number in range(size):
        trial = source.ask()
        _purpose_space().suggest(trial)
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


_SPACE: list[Any] = []


def _purpose_space() -> Any:
    if not _SPACE:
        _SPACE.append(_purpose().space)
    return _SPACE[0]


def trials() -> None:
    """Prints milliseconds of each call, by trials in the study."""
    server = PostgresServer()
    server.start()
    print("| storage, sampler | trials | open | ask | report | should_prune | tell |")
    print("|---|---|---|---|---|---|---|")
    try:
        for kind, sampler in (("PostgreSQL", "random"), ("PostgreSQL", "tpe"), ("journal", "tpe")):
            for size in SIZES:
                with tempfile.TemporaryDirectory() as folder:
                    os.chdir(folder)
                    url = server.url(server.make_database()) if kind == "PostgreSQL" else None
                    place = storage.resolve(url)
                    _fill(_open(place, "s", sampler), size)
                    print(f"| {kind}, {sampler} | {size:,} | {_row(place, sampler)} |", flush=True)
    finally:
        server.remove()


def _row(place: StudyStorage, sampler: SamplerName) -> str:
    took: dict[str, list[float]] = {name: [] for name in ("ask", "report", "prune", "tell")}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        took[name].append(1_000 * (time.perf_counter() - start))
        return result

    start = time.perf_counter()
    shared = _open(storage.resolve(place.url and place.url.render_as_string(False)), "s", sampler)
    shared.trials()
    opened = 1_000 * (time.perf_counter() - start)
    for _ in range(ASKED):
        claim = timed("ask", shared.ask)
        for step in range(1, REPORTS + 1):
            timed("report", partial(shared.report, claim, float(step), step))
            timed("prune", claim.trial.should_prune)
        timed("tell", partial(shared.tell, claim, 1.0))
    return " | ".join(f"{x:.1f}" for x in (opened, *map(statistics.median, took.values())))


def workers() -> None:
    """Prints trials a second, by processes that ask, and what their servers spend on it."""
    server = PostgresServer()
    server.start()
    print("| workers | trials a second | of what sleep allows | PostgreSQL's cores | theirs |")
    print("|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    try:
        for count in WORKERS:
            url = server.url(server.make_database())
            _fill(_open(storage.resolve(url), "s", "tpe"), 100)
            gate, told = context.Barrier(count + 1), context.Queue()
            started = [
                context.Process(target=_sleeper, args=(url, number, gate, told))
                for number in range(count)
            ]
            for process in started:
                process.start()
            gate.wait()
            start, before = time.monotonic(), _servers(server)
            ended, theirs = (sum(each) for each in zip(*[told.get() for _ in started], strict=True))
            took, spent = time.monotonic() - start, _servers(server) - before
            for process in started:
                process.join()
            rate = ended / took
            print(
                f"| {count} | {rate:.2f} | {100 * rate * SLEEP / count:.0f} % | "
                f"{spent / took:.2f} | {theirs / took:.2f} |",
                flush=True,
            )
    finally:
        server.remove()


def _servers(server: PostgresServer) -> float:
    found = [p for p in psutil.process_iter() if str(server.folder) in " ".join(_command(p))]
    return sum(map(_tree, found))


def _sleeper(url: str, number: int, gate: Any, told: Any) -> None:
    """A host with one worker, whose trials sleep."""
    shared = _open(storage.resolve(url), "s", "tpe", number + 1)
    gate.wait()
    ended, deadline = 0, time.monotonic() + LASTS
    began = time.process_time()
    while time.monotonic() < deadline:
        claim = shared.ask()
        assert claim is not None
        for step in range(1, REPORTS + 1):
            time.sleep(SLEEP / REPORTS)
            shared.report(claim, float(number), step)
            claim.trial.should_prune()
        shared.trials()  # of which the output says how the search stands
        ended += shared.tell(claim, float(number))
    told.put((ended, time.process_time() - began))


if __name__ == "__main__":
    main()
