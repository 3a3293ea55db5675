"""A search on several hosts, and the conditions that hold after it."""

from __future__ import annotations

import contextlib
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
"""Settings of a short but real training."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_PATIENT_MAIN = """
from cli.main import main
from dqnkit.tuning.retrying_storage import RetryingStorage
RetryingStorage.patience = {patience}
main()
"""
"""Program that runs `dqnkit` with another patience for a database that does not answer."""


@dataclass
class Site:
    """Hosts, servers, and the search that the hosts run."""

    network: Network
    database: PostgresServer
    tracking: MlflowServer
    name: str
    """Name of Optuna's database."""

    def command(self, trials: int, patience: float | None = None) -> list[str]:
        """Return the command of a host.

        Args:
          trials: Number of trials that are to end.
          patience: Maximum time in seconds to wait for the database; None is the default.
        """
        main = ["-m", "cli.main"]
        if patience is not None:
            main = ["-c", _PATIENT_MAIN.format(patience=patience)]
        settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
        return [
            *(sys.executable, *main, "tune", "tutorial", "--study", STUDY),
            *("--trials", str(trials), "--workers", "1", "--confirm", "1", *settings),
            *("--storage", self.database.url(self.name, password=False)),
            *("--tracking-uri", self.tracking.uri),
        ]

    def start(self, host: Host, trials: int, patience: float | None = None) -> None:
        """Let a host join the search; the password is in its environment only."""
        environment = {"PGPASSWORD": PASSWORD, "PYTHONPATH": str(ROOT), "COLUMNS": "150"}
        host.start(*self.command(trials, patience), environment=environment)

    def study(self) -> optuna.Study:
        """Load the study from the database."""
        return optuna.load_study(study_name=STUDY, storage=self.database.url(self.name))

    def trials(self) -> list[FrozenTrial]:
        """Return all trials; none while the study does not exist."""
        with contextlib.suppress(KeyError, AssertionError):
            return self.study().get_trials(deepcopy=False)
        return []

    def ended(self) -> int:
        """Return the number of trials that are complete or pruned."""
        return sum(trial.state in ENDED for trial in self.trials())

    def runs(self) -> list[Any]:
        """Return all runs of all experiments."""
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
        """Return the steps of a metric's points, sorted."""
        from mlflow import MlflowClient

        points = MlflowClient(self.tracking.uri).get_metric_history(run_id, key)
        return sorted(point.step for point in points)


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Start a PostgreSQL and an MLflow server, each with an empty database."""
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
    """Wait until a condition holds.

    Args:
      condition: Returns whether it holds.
      what: Description of the condition, for the error.
      seconds: Maximum time to wait.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds:.0f} s: {what}"
        time.sleep(0.5)


def check(at: Site, total: int, confirmed: int = 5) -> dict[str, int]:
    """Check that exactly `total` trials ended, with all their points, and the rest happened once.

    Args:
      at: The site, after the search.
      total: Number of trials.
      confirmed: Number of runs of the confirmation.

    Returns:
      Numbers of trials by state, of runs and of points.
    """
    trials = at.trials()
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == total, states
    assert states["RUNNING"] == states["WAITING"] == 0, states
    runs = at.runs()
    assert Counter(run.info.status for run in runs)["RUNNING"] == 0
    points = sum(_check_points(at, trial, runs) for trial in trials if trial.state in ENDED)
    _check_runs_are_distinct(trials)
    kinds = Counter(run.data.tags.get("dqnkit.kind") for run in runs)
    assert kinds["study"] == 1
    assert kinds["confirmation"] == 1
    confirming = [run for run in runs if "dqnkit.confirms" in run.data.tags]
    trained = [run for run in confirming if run.data.tags["dqnkit.kind"] == "training"]
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
    """Check that a trial's run has a point per reported evaluation and per log; count points."""
    run_id = trial.user_attrs["run_id"]
    (run,) = [each for each in runs if each.info.run_id == run_id]
    assert run.info.status == "FINISHED", (trial.number, run.info.status)
    assert run.data.tags["trial.state"] == trial.state.name.lower()
    assert run.data.tags["dqnkit.trial"] == str(trial.number)
    evaluated = at.history(run_id, "eval/return_mean")
    interval, log = SETTINGS["evaluation.eval_interval"], SETTINGS["training.log_interval"]
    first = evaluated[0]  # random steps fill the replay before the first iteration
    last = len(trial.intermediate_values)
    assert evaluated == [first + interval * k for k in range(last + 1)], trial.number
    losses = at.history(run_id, "train/loss")
    assert losses == [first + log * k for k in range(1, last * interval // log + 1)], trial.number
    return sum(len(at.history(run_id, key)) for key in run.data.metrics)


def _check_runs_are_distinct(trials: list[FrozenTrial]) -> None:
    """Check that no two trials share a run, including repeated ones."""
    ids = [trial.user_attrs["run_id"] for trial in trials if "run_id" in trial.user_attrs]
    assert len(ids) == len(set(ids))
