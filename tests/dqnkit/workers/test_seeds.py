from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dqnkit.workers.messages import Message

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError, InterruptedRun, WorkerError
from dqnkit.evaluation import aggregates
from dqnkit.tracking import location
from dqnkit.workers import seeds
from dqnkit.workers.pool import WorkerPool
from dqnkit.workers.seed_group import SeedResult
from dqnkit.workers.seeds import SeedsOptions, SilentSeedsReporter, train_seeds
from tests import fake_training
from tests.conftest import ROOT
from tests.runs import make_store

Small = Callable[..., Config]


@pytest.fixture(autouse=True)
def _fake_training(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_training" not in request.keywords:
        monkeypatch.setattr(seeds, "WorkerPool", partial(WorkerPool, target=fake_training.serve))
        make_store()


def _config(*assignments: str) -> Config:
    return loading.default_config(
        "seeded",
        ["seeds.num_iterations=40", "evaluation.eval_interval=10", *assignments],
    )


def _runs() -> tuple[Any, list[Any]]:
    """The run of the group, and those below it."""
    from mlflow import MlflowClient

    client = MlflowClient(location.locate_store().uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(ids)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run is not parents[0]]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} <= {parents[0].info.run_id}
    return parents[0], children


def test_seeds_stand_below_a_run_with_their_aggregate() -> None:
    config = _config("seeds.seed=3")
    heard: list[SeedResult] = []

    class Listener(SilentSeedsReporter):
        def result(self, result: SeedResult) -> None:
            heard.append(result)

    result = train_seeds(config, SeedsOptions(count=5, workers=2), reporter=Listener())
    expected = [fake_training.score(config.with_seed(seed)) for seed in range(3, 8)]
    assert [each.seed for each in result.seeds] == [3, 4, 5, 6, 7]
    assert sorted(each.seed for each in heard) == [3, 4, 5, 6, 7]
    np.testing.assert_allclose([each.final_mean for each in result.seeds], expected)
    # The last of four evaluations have 1/4, 2/4, 3/4 and all of the score.
    late = [
        aggregates.interquartile_mean(
            np.array(
                [
                    value * part + offset
                    for part in (0.25, 0.5, 0.75, 1.0)
                    for offset in (-1, 0, 0, 1)
                ]
            )
        )
        for value in expected
    ]
    np.testing.assert_allclose([each.late_iqm for each in result.seeds], late)
    assert result.scores.late == aggregates.estimate(np.array(late))
    assert result.scores.n == 5

    parent, children = _runs()
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * 5
    assert sorted(int(c.data.params["seeds.seed"]) for c in children) == [3, 4, 5, 6, 7]
    assert parent.data.tags["dqnkit.kind"] == "seeds"
    assert parent.data.metrics["late/return_iqm"] == pytest.approx(result.scores.late.value)
    assert parent.data.metrics["final/return_ci_low"] == pytest.approx(result.scores.final.low)
    assert parent.data.metrics["seeds"] == 5
    assert "IQM over 5 seeds" in parent.data.tags["mlflow.note.content"]
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((artifacts / "seeds.json").read_text())["seeds"]) == 5
    again = loading.load(str(artifacts / "config.yaml"))
    assert again.training.seed == 3


def test_a_seed_whose_process_dies_is_trained_again() -> None:
    """It dies each time: after three attempts the group says so, and keeps the others."""
    config = _config("tracking.tags={dies: -s1}")
    with pytest.raises(WorkerError, match=r"1 of 3 seeds failed: my-group-s1: .*signal 9"):
        train_seeds(config, SeedsOptions(count=3, workers=2, run_name="my-group"))
    parent, children = _runs()
    assert (parent.info.run_name, parent.info.status) == ("my-group", "FAILED")
    statuses = sorted(child.info.status for child in children)
    assert statuses == ["FAILED"] * 3 + ["FINISHED"] * 2
    assert parent.data.metrics["seeds"] == 2


@pytest.mark.parametrize("count", [2, 4])
def test_a_signal_ends_the_runs_as_killed(count: int) -> None:
    """Also where no seed is left to begin."""

    class Interrupter(SilentSeedsReporter):
        def heard(self, worker: int, message: Message) -> None:
            if type(message).__name__ == "Evaluated":
                os.kill(os.getpid(), signal.SIGTERM)

    config = _config("tracking.tags={seconds: '0.2'}")
    options = SeedsOptions(count=count, workers=2)
    with pytest.raises(InterruptedRun, match=f"SIGTERM after 0 of {count} seeds"):
        train_seeds(config, options, reporter=_Once(Interrupter()))
    parent, children = _runs()
    assert parent.info.status == "KILLED"
    assert {child.info.status for child in children} <= {"KILLED"}


class _Once(SilentSeedsReporter):
    """Lets another hear the first evaluation alone."""

    def __init__(self, reporter: SilentSeedsReporter) -> None:
        self._reporter: SilentSeedsReporter | None = reporter

    def heard(self, worker: int, message: Message) -> None:
        if self._reporter is not None and type(message).__name__ == "Evaluated":
            reporter, self._reporter = self._reporter, None
            reporter.heard(worker, message)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"count": 0}, "--seeds 0"),
        ({"count": 10_000}, "--seeds 10000"),
        ({"count": 2, "workers": 0}, "--workers 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        SeedsOptions(**options)  # type: ignore[arg-type]


@pytest.mark.real_training
def test_a_worker_trains_what_this_process_would_and_the_parent_loads_no_tensorflow(
    small: Small,
) -> None:
    from dqnkit.runs.trainer import train

    config = small("seeds.seed=4", "tracking.enabled=false")
    Path("config.yaml").write_text(loading.dump(config), encoding="utf-8")
    script = (
        "import json, sys\n"
        "from dqnkit import experiments\n"
        "from dqnkit.workers.seeds import SeedsOptions, train_seeds\n"
        "if __name__ == '__main__':\n"
        "    config = loading.load('config.yaml')\n"
        "    result = train_seeds(config, SeedsOptions(count=2, workers=1))\n"
        "    loaded = {'tensorflow', 'tf_agents'} & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
        "    print(json.dumps([each.as_dict() for each in result.seeds]))\n"
    )
    Path("script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    for document in json.loads(done.stdout):
        result = SeedResult.from_dict(document)
        here = train(config.with_seed(result.seed))
        curve = tuple((each.env_steps, each.summary.mean) for each in here.evaluations)
        assert result.curve == curve
        assert result.late_iqm == here.late.summary.iqm
        assert result.final_iqm == here.final.summary.iqm
