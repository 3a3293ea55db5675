"""Whole searches, in real processes and stores; only the training is arithmetic."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError, InterruptedRun, StudyError
from dqnkit.tracking import family, location, mlflow_tracker
from dqnkit.tuning import figures, search, storage, study
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.standing import SilentTuneReporter, Standing, TrialScore
from dqnkit.workers.pool import WorkerPool
from tests import fake_training
from tests.conftest import ROOT
from tests.runs import make_store


@pytest.fixture(autouse=True)
def _fake_training(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WorkerPool", partial(WorkerPool, target=fake_training.serve))
    if "pictures" not in request.keywords:  # which take seconds, and are the same each time
        monkeypatch.setattr(figures, "draw", lambda *_: None)


def _config(*assignments: str) -> Config:
    return loading.default_config(
        "sought", ["training.num_iterations=100", "evaluation.eval_interval=10", *assignments]
    )


def _tune(
    *assignments: str, reporter: SilentTuneReporter | None = None, **options: Any
) -> TuneResult:
    chosen = TuneOptions(**{"workers": 2, "confirm": 2, "trials": 6, **options})
    config = _config(*assignments)
    if config.tracking.enabled:
        make_store()
    return search.tune(config, chosen, reporter=reporter)


class _Runs:
    """What MLflow has of a study."""

    def __init__(self) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(location.locate_store().uri)
        ids = [each.experiment_id for each in self.client.search_experiments()]
        found = self.client.search_runs(ids, max_results=1000)
        self.study = [run for run in found if run.data.tags.get("dqnkit.kind") == "study"]
        self.trials = [
            run
            for run in found
            if "dqnkit.trial" in run.data.tags and run.data.tags["dqnkit.kind"] == "training"
        ]
        self.all = found

    def states(self) -> Counter[tuple[str, str | None]]:
        return Counter((run.info.status, run.data.tags.get("trial.state")) for run in self.trials)

    def files(self) -> Path:
        return Path(self.study[0].info.artifact_uri.removeprefix("file://"))


def _study(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage.resolve(None).open(name))


@pytest.mark.pictures
def test_a_search_ends_with_a_confirmed_winner_and_all_on_record() -> None:
    result = _tune(trials=12, pruner="median", seeds_per_trial=1)
    standing = result.standing
    assert standing.ended == 12
    assert standing.failed == 0
    assert standing.best is not None

    # The winner is what fresh seeds, unknown to the search, say.
    assert [each.scores.n for each in result.confirmed] == [5, 5]
    assert {each.seed for each in result.confirmed[0].results} == {1, 2, 3, 4, 5}
    assert result.confirmed[0].score.value >= result.confirmed[1].score.value
    assert not result.was_overturned
    low, high = result.confirmed[0].score.low, result.confirmed[0].score.high
    assert low <= result.confirmed[0].score.value <= high

    runs = _Runs()
    (parent,) = runs.study
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == result.study
    assert runs.states() == Counter(
        {("FINISHED", "complete"): standing.complete, ("FINISHED", "pruned"): standing.pruned}
    )
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.trials} == {parent.info.run_id}
    assert {run.data.tags["dqnkit.study"] for run in runs.trials} == {result.study}
    assert parent.data.metrics["study/confirmed_iqm"] == pytest.approx(
        result.confirmed[0].score.value
    )
    groups = [run for run in runs.all if run.data.tags["dqnkit.kind"] == "confirmation"]
    assert {run.data.tags["mlflow.parentRunId"] for run in groups} == {parent.info.run_id}
    seeds = [
        run
        for run in runs.all
        if run.data.tags.get("mlflow.parentRunId") in {group.info.run_id for group in groups}
    ]
    assert len(seeds) == 10
    assert not any("dqnkit.study" in run.data.tags for run in seeds)  # which are no trials

    version = runs.client.get_model_version_by_alias("sought", "champion")
    assert version.run_id == result.confirmed[0].champion.run_id
    assert result.model == "models:/sought@champion"

    files = runs.files()
    names = {path.name for path in files.iterdir()}
    assert {"best.yaml", "trials.csv", "confirmation.csv", "search.html", "search"} <= names
    for picture in (
        "optimization_history",
        "param_importances",
        "parallel_coordinate",
        "slice",
        "intermediate_values",
    ):
        assert (files / "search" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    page = (files / "search.html").read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot") >= 5
    assert "<script src" not in page  # it needs no network
    with (files / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(number) for number in range(12)]
    assert all(row["run_id"] for row in rows)

    best = loading.load(str(files / "best.yaml"))
    assert best == result.winner
    assert best.training.seed == result.confirmed[0].champion.seed
    assert study.winner(storage.resolve(None), result.study) == (files / "best.yaml").read_text()


def test_a_trials_value_is_of_its_last_evaluations_together() -> None:
    result = _tune(trials=1, confirm=0, pruner="none")
    # Of ten evaluations the last five have 0.6 to 1.0 of the score.
    full = fake_training.score(_config())
    trial = _study(result.study).trials[0]
    assert trial.value == pytest.approx(0.8 * full)
    assert trial.intermediate_values[10] == trial.value
    assert trial.intermediate_values[2] == pytest.approx(0.15 * full)
    assert len(trial.intermediate_values) == 10


def test_a_trial_of_several_seeds_is_their_aggregate_with_a_run_for_each() -> None:
    result = _tune(trials=2, confirm=0, pruner="none", seeds_per_trial=4)
    values = [0.8 * fake_training.score(_config().with_seed(seed)) for seed in range(4)]
    assert _study(result.study).trials[0].value == pytest.approx(sum(values[1:3]) / 2)
    runs = _Runs()
    groups = [run for run in runs.all if run.data.tags["dqnkit.kind"] == "trial"]
    assert [run.info.status for run in groups] == ["FINISHED"] * 2
    assert {run.data.tags["trial.state"] for run in groups} == {"complete"}
    assert {run.data.tags["mlflow.parentRunId"] for run in groups} == {runs.study[0].info.run_id}
    assert len(runs.trials) == 8
    assert {r.data.tags["mlflow.parentRunId"] for r in runs.trials} == {
        group.info.run_id for group in groups
    }
    assert result.fresh_seed == 9  # behind those of the search and of its confirmation


def test_wilcoxon_ends_a_trial_between_seeds() -> None:
    result = _tune(trials=8, confirm=0, pruner="wilcoxon", seeds_per_trial=6, sampler="random")
    trials = _study(result.study).trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned
    assert all(1 < len(trial.intermediate_values) < 6 for trial in pruned)
    assert all(len(t.intermediate_values) == 6 for t in trials if t.state.name == "COMPLETE")


def test_hopeless_trials_are_pruned_and_finished_in_mlflow() -> None:
    result = _tune(trials=15, confirm=0, sampler="random")
    assert result.standing.pruned > 0
    runs = _Runs()
    assert runs.states()["FINISHED", "pruned"] == result.standing.pruned
    (pruned, *_) = [run for run in runs.trials if run.data.tags["trial.state"] == "pruned"]
    history = runs.client.get_metric_history(pruned.info.run_id, "eval/return_mean")
    assert max(point.step for point in history) < 100


def test_fresh_seeds_may_overturn_the_search() -> None:
    # With two workers it depends on their pace which of the others are pruned beside the lucky one.
    result = _tune("tracking.tags={lucky: t001}", confirm=3, workers=1)
    assert result.standing.best is not None
    assert result.standing.best.number == 1  # by luck
    assert result.was_overturned
    assert result.confirmed[0].trial.number != 1
    assert "overturned" in _Runs().study[0].data.tags["mlflow.note.content"]


def test_failures_are_tried_again_or_replaced_and_told() -> None:
    told: list[str] = []

    class Listener(SilentTuneReporter):
        def told(self, text: str) -> None:
            told.append(text)

    tags = "tracking.tags={diverges: t000, dies: t001, raises: t003}"
    # With one worker t001 is tried again as t002; with two that depends on which tells first.
    one = {"workers": 1, "confirm": 0, "pruner": "none"}
    result = _tune(tags, trials=6, reporter=Listener(), **one)
    assert (result.standing.complete, result.standing.failed) == (6, 3)
    trials = _study(result.study).trials
    for number in (1, 3):  # the same again
        again = [t for t in trials if t.params == trials[number].params and t.number != number]
        assert [trial.state.name for trial in again] == ["COMPLETE"]
    assert not [t for t in trials if t.params == trials[0].params and t.number != 0]
    for number, cause in ((0, "nan"), (1, "signal 9"), (3, "the disk is gone")):
        (text,) = [text for text in told if text.startswith(f"trial {number} failed")]
        assert cause in text
        assert text in result.problems
    assert _Runs().states() == Counter({("FINISHED", "complete"): 6, ("FAILED", "failed"): 3})


def test_a_fault_that_no_parameters_mend_ends_the_search() -> None:
    with pytest.raises(StudyError, match=r"[56] trials in a row failed.*the disk is gone"):
        _tune("tracking.tags={raises: t0}", trials=20)
    runs = _Runs()
    assert [run.info.status for run in runs.study] == ["FAILED"]
    assert set(runs.states()) == {("FAILED", "failed")}


class _Interrupter(SilentTuneReporter):
    """Sends signals when so many trials have ended."""

    def __init__(self, after: int, signals: Sequence[int] = (signal.SIGINT,)) -> None:
        self._after = after
        self._signals = signals

    def ended(self, number: int, state: str, value: float | None, standing: Standing) -> None:
        if standing.ended == self._after and self._signals:
            signals, self._signals = self._signals, ()
            for each in signals:
                os.kill(os.getpid(), each)


def test_an_interrupted_search_goes_on_where_it_was() -> None:
    slow = "tracking.tags={seconds: '0.05'}"
    with pytest.raises(InterruptedRun, match=r"SIGINT after [34] of 8 trials") as caught:
        _tune(slow, trials=8, pruner="none", reporter=_Interrupter(3))
    (name,) = storage.resolve(None).names()
    assert f"dqnkit tune --trials 8 --workers 2 --study {name} --pruner none --confirm 2" in str(
        caught.value
    )
    runs = _Runs()
    assert [run.info.status for run in runs.study] == ["KILLED"]
    complete = runs.states()["FINISHED", "complete"]
    assert complete in {3, 4}
    assert runs.states()["KILLED", "interrupted"] == len(runs.trials) - complete
    interrupted = [t.params for t in _study(name).trials if t.state.name == "FAIL"]

    result = _tune(slow, trials=8, pruner="none", study=name)
    trials = _study(name).trials
    assert Counter(trial.state.name for trial in trials)["COMPLETE"] == 8
    for params in interrupted:
        assert [t.state.name for t in trials if t.params == params] == ["FAIL", "COMPLETE"]
    runs = _Runs()
    (parent,) = runs.study  # the same run
    assert (parent.info.status, parent.info.run_id) == ("FINISHED", result.run_id)
    assert result.standing.failed == 0


def test_a_second_signal_ends_at_once_and_leaves_nothing_running() -> None:
    reporter = _Interrupter(1, (signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        _tune("tracking.tags={seconds: '0.1'}", pruner="none", reporter=reporter)
    runs = _Runs()
    assert "RUNNING" not in {run.info.status for run in runs.all}
    (name,) = storage.resolve(None).names()
    states = Counter(trial.state.name for trial in _study(name).trials)
    assert states["RUNNING"] == 0
    assert states["WAITING"] >= 1


def test_an_interrupted_confirmation_goes_on_where_it_was() -> None:
    class Interrupter(SilentTuneReporter):
        def __init__(self) -> None:
            self.results = 0
            self._confirms = False

        def confirming(
            self, candidates: Sequence[TrialScore], seeds: Sequence[int], left: int
        ) -> None:
            self._confirms = True

        def heard(self, worker: int, message: Any) -> None:
            if self._confirms and type(message).__name__ == "Ended":
                self.results += 1
                if self.results == 3:
                    os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRun, match="its confirmation is not complete"):
        _tune(trials=3, pruner="none", reporter=Interrupter())
    groups = [run for run in _Runs().all if run.data.tags["dqnkit.kind"] == "confirmation"]
    assert {run.info.status for run in groups} <= {"FINISHED", "KILLED"}
    (name,) = storage.resolve(None).names()
    known = _study(name).user_attrs["dqnkit.confirmation"]
    done = sum(len(seeds) for seeds in known.values())
    assert 3 <= done < 10

    class Counting(Interrupter):
        def heard(self, worker: int, message: Any) -> None:
            self.results += self._confirms and type(message).__name__ == "Ended"

    counting = Counting()
    result = _tune(trials=3, pruner="none", study=name, reporter=counting)
    assert counting.results == 10 - done
    assert [each.scores.n for each in result.confirmed] == [5, 5]


@pytest.mark.slow
def test_more_trials_may_follow() -> None:
    first = _tune(trials=3, confirm=0)
    more = _tune(trials=5, confirm=0, study=first.study)
    assert more.standing.ended == 5
    assert more.run_id == first.run_id
    assert len({str(t.params) for t in _study(first.study).trials}) == 5  # none drawn twice


@pytest.mark.slow
def test_nothing_is_left_to_do_in_a_study_that_is_done() -> None:
    first = _tune(trials=3)
    again = _tune(trials=3, study=first.study)
    assert again.as_dict()["confirmed"] == first.as_dict()["confirmed"]
    assert len(_study(first.study).trials) == 3


@pytest.mark.slow
def test_a_timeout_ends_the_search_and_what_there_is_is_confirmed() -> None:
    result = _tune("tracking.tags={seconds: '0.05'}", trials=10_000, timeout=4.0, pruner="none")
    assert 0 < result.standing.ended < 10_000
    assert result.standing.failed == 0
    assert result.confirmed


def test_a_grid_ends_when_it_is_walked() -> None:
    result = _tune(
        "search.optimizer.learning_rate={type: categorical, choices: [1e-2, 1e-3, 1e-4]}",
        trials=50,
        sampler="grid",
        pruner="none",
        confirm=1,
    )
    assert result.standing.total == 3
    assert result.winner.optimizer.learning_rate == fake_training.BEST_RATE


def test_without_a_record_the_winner_is_known_all_the_same() -> None:
    result = _tune("tracking.enabled=false", trials=3)
    assert (result.run_id, result.model) == (None, None)
    assert not Path("mlruns/mlflow.db").exists()
    text = study.winner(storage.resolve(None), result.study)
    assert loading.load_text(text, "winner") == result.winner


def test_a_search_without_a_complete_trial_has_no_winner() -> None:
    def prune(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda _: True)

    with pytest.MonkeyPatch.context() as patched:
        prune(patched)
        with pytest.raises(StudyError, match=r"no trial .* is complete"):
            _tune(trials=2)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"trials": 0}, "--trials 0"),
        ({"workers": 0}, "--workers 0"),
        ({"confirm": -1}, "--confirm -1"),
        ({"seeds_per_trial": 0}, "--seeds-per-trial 0"),
        ({"timeout": float("nan")}, "--timeout nan"),
        ({"pruner": "wilcoxon"}, "--pruner wilcoxon"),
        ({"sampler": "grid"}, "--sampler grid"),
        ({"study": "../x"}, "--study"),
        ({"storage": "here"}, "--storage"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_begun(
    options: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        search.tune(_config(), TuneOptions(**options))
    assert not Path("mlruns/mlflow.db").exists()


def test_one_evaluation_is_too_few_for_a_value() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.eval_interval=100"):
        _tune("evaluation.eval_interval=100")


def test_own_values_outside_the_space_are_told() -> None:
    result = _tune(
        "search.optimizer.learning_rate={type: float, low: 1e-5, high: 1e-4, log: true}",
        trials=2,
        confirm=0,
    )
    assert any("own value 0.001" in problem for problem in result.problems)


def test_with_one_worker_the_seed_decides_the_whole_search() -> None:
    def trials(name: str, *assignments: str) -> list[Any]:
        _tune(*assignments, trials=12, workers=1, confirm=0, study=name)
        return [(t.params, t.state, t.value) for t in _study(name).trials]

    # Hyperband's brackets follow from the study's name, so it is the same twice.
    first = trials("again", "tracking.enabled=false")
    storage_file = Path("mlruns/studies/again.journal")
    storage_file.unlink()
    assert trials("again", "tracking.enabled=false") == first
    assert trials("other", "training.seed=1", "tracking.enabled=false") != first


PARENT = """
import sys
from functools import partial
from dqnkit.config import loading
from dqnkit.tuning import search
from dqnkit.tuning.options import TuneOptions
from dqnkit.workers.pool import WorkerPool
from tests import fake_training
from tests.conftest import ROOT
if __name__ == "__main__":
    search.Pool = partial(WorkerPool, target=fake_training.serve)
    lengths = ["training.num_iterations=100", "evaluation.eval_interval=10"]
    config = loading.default_config("sought", lengths)
    search.tune(config, TuneOptions(trials=3, workers=1, confirm=1))
    loaded = {"tensorflow", "tf_agents", "tf_keras"} & set(sys.modules)
    sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


@pytest.mark.slow
@pytest.mark.pictures
def test_the_parent_of_a_whole_search_loads_no_tensorflow() -> None:
    Path("parent.py").write_text(PARENT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "parent.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_what_the_record_could_not_keep_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError("no models here")

    monkeypatch.setattr(family.MlflowParentTracker, "_register", refuse)
    monkeypatch.setattr(mlflow_tracker, "_RETRY_SECONDS", (0.0,))
    result = _tune(trials=2, confirm=1)
    assert result.model is None
    assert any("sought@champion" in each and "no models" in each for each in result.problems)
    assert study.winner(storage.resolve(None), result.study)
