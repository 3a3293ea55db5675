"""One search on several hosts, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tests.conftest import ROOT
from tests.hosts import SERVER, Host, Network
from tests.postgres import PASSWORD, PostgresServer
from tests.servers import MlflowServer

STUDY = "shared"
SETTINGS = {
    "training.num_iterations": 4_000,
    "training.log_interval": 200,
    "evaluation.eval_interval": 400,
    "evaluation.final_episodes": 20,
}
"""Of a short training that is real."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass
class Site:
    """Three hosts' worth of servers, and the search that runs on them."""

    network: Network
    database: PostgresServer
    tracking: MlflowServer
    name: str
    """Of Optuna's database."""

    def search(self, trials: int, *more: str) -> list[str]:
        """The command that every host is given."""
        settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
        return [
            *(sys.executable, "-m", "cli.main", "tune", "tutorial", "--study", STUDY),
            *("--trials", str(trials), "--workers", "1", "--confirm", "1", *settings),
            *("--storage", self.database.url(self.name, password=False)),
            *("--tracking-uri", self.tracking.uri, *more),
        ]

    def start(self, host: Host, trials: int, *more: str) -> None:
        """Lets a host join; the password is in its environment, not on its command line."""
        environment = {"PGPASSWORD": PASSWORD, "PYTHONPATH": str(ROOT), "COLUMNS": "150"}
        host.start(*self.search(trials, *more), environment=environment)

    def study(self) -> optuna.Study:
        """As it stands in the database."""
        return optuna.load_study(study_name=STUDY, storage=self.database.url(self.name))

    def trials(self) -> list[FrozenTrial]:
        """All; none while the study is not there."""
        with contextlib.suppress(KeyError, AssertionError):
            return self.study().get_trials(deepcopy=False)
        return []

    def ended(self) -> int:
        """Trials that count."""
        return sum(trial.state in ENDED for trial in self.trials())

    def runs(self) -> list[Any]:
        """All runs of all experiments."""
        from mlflow import MlflowClient

        client = MlflowClient(self.tracking.uri)
        ids = [each.experiment_id for each in client.search_experiments()]
        found: list[Any] = []
        token = None
        while True:
            page = client.search_runs(ids, max_results=1_000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def history(self, run_id: str, key: str) -> list[int]:
        """Steps of a metric's points, in order."""
        from mlflow import MlflowClient

        points = MlflowClient(self.tracking.uri).get_metric_history(run_id, key)
        return sorted(point.step for point in points)


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A PostgreSQL and an MLflow server, each with an empty database of its own."""
    database = PostgresServer(SERVER)
    with Network(folder) as network, contextlib.ExitStack() as stack:
        stack.callback(database.remove)
        database.start()
        runs = database.url(database.make_database())
        tracking = MlflowServer(folder / "tracking", SERVER, runs)
        tracking.start()
        stack.callback(tracking.stop)
        yield Site(network, database, tracking, database.make_database())


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 600.0) -> None:
    """Looks now and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s not yet: {what}"
        time.sleep(0.5)


def check(at: Site, total: int, confirmed: int = 5) -> dict[str, int]:
    """Exactly so many trials ended, each with all its points, and the rest happened once.

    Returns:
      What was counted.
    """
    trials = at.trials()
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == total, states
    assert states["RUNNING"] == states["WAITING"] == 0, states
    runs = at.runs()
    assert Counter(run.info.status for run in runs)["RUNNING"] == 0
    points = 0
    for trial in trials:
        if trial.state in ENDED:
            points += _check_points(at, trial, runs)
    _check_that_runs_are_apart(trials)
    kinds = Counter(run.data.tags.get("dqnkit.kind") for run in runs)
    assert kinds["study"] == 1
    assert kinds["confirmation"] == 1
    confirming = [r for r in runs if "dqnkit.confirms" in r.data.tags]
    trained = [r for r in confirming if r.data.tags["dqnkit.kind"] == "training"]
    assert Counter(run.info.status for run in trained)["FINISHED"] == confirmed
    from mlflow import MlflowClient

    assert len(MlflowClient(at.tracking.uri).search_model_versions("name = 'tutorial'")) == 1
    return {
        "complete": states["COMPLETE"],
        "pruned": states["PRUNED"],
        "failed": states["FAIL"],
        "runs": len(runs),
        "points": points,
    }


def _check_points(at: Site, trial: FrozenTrial, runs: list[Any]) -> int:
    """A trial's own run has a point for each evaluation that the trial reported, and each log."""
    run_id = trial.user_attrs["run_id"]
    (run,) = [each for each in runs if each.info.run_id == run_id]
    assert run.info.status == "FINISHED", (trial.number, run.info.status)
    assert run.data.tags["trial.state"] == trial.state.name.lower()
    assert run.data.tags["dqnkit.trial"] == str(trial.number)
    evaluated = at.history(run_id, "eval/return_mean")
    interval, log = SETTINGS["evaluation.eval_interval"], SETTINGS["training.log_interval"]
    first = evaluated[0]  # random steps fill the buffer before the first iteration
    last = len(trial.intermediate_values)
    assert evaluated == [first + interval * k for k in range(last + 1)], trial.number
    losses = at.history(run_id, "train/loss")
    assert losses == [first + log * k for k in range(1, last * interval // log + 1)], trial.number
    return sum(len(at.history(run_id, key)) for key in run.data.metrics)


def _check_that_runs_are_apart(trials: list[FrozenTrial]) -> None:
    """No trial writes into another's run, a retried one neither."""
    ids = [trial.user_attrs["run_id"] for trial in trials if "run_id" in trial.user_attrs]
    assert len(ids) == len(set(ids))


def environment_of(process: int) -> str:
    """Command line of a process, as `ps` shows it to everybody."""
    return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8").replace("\0", " ")


def cores() -> int:
    """That there are."""
    return len(os.sched_getaffinity(0))
