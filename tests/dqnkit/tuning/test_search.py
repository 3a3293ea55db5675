"""Whole searches with real processes and stores; only the training is simulated."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, ConfigError, InterruptedRun, StudyError
from dqnkit.events import (
    ConfirmationStarted,
    Event,
    Listener,
    RunEnded,
    SearchStarted,
    TrialEnded,
    WorkerEvent,
    ignore,
)
from dqnkit.tracking import editor
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tuning import catalog, figures, search
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.storage import locate_storage
from tests import fake_training
from tests.conftest import ROOT
from tests.dqnkit.tuning.helpers import SHORT, EventLog
from tests.runs import make_store


@pytest.fixture(autouse=True)
def _fake_training(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_training.install(monkeypatch)
    if "pictures" not in request.keywords:  # figures take seconds
        monkeypatch.setattr(figures, "draw", lambda *_: None)


def _config(*assignments: str) -> Config:
    return loading.default_config("sought", [*SHORT, *assignments])


def _tune(
    *assignments: str,
    listener: Listener = ignore,
    tracking_uri: str | None = AUTO,
    **options: Any,
) -> TuneResult:
    if tracking_uri is not None:
        make_store()
    chosen = TuneOptions(**{"workers": 2, "confirm": 2, "trials": 6, **options})
    return search.tune(_config(*assignments), chosen, tracking_uri=tracking_uri, listener=listener)


class _Runs:
    """The runs of a search in the embedded store."""

    def __init__(self) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(locate_store().uri)
        ids = [each.experiment_id for each in self.client.search_experiments()]
        self.all = self.client.search_runs(ids, max_results=1000)
        self.study = self.of_kind("study")
        self.trials = [run for run in self.of_kind("training") if "dqnkit.trial" in run.data.tags]

    def of_kind(self, kind: str) -> list[Any]:
        return [run for run in self.all if run.data.tags.get("dqnkit.kind") == kind]

    def below(self, parents: Sequence[Any]) -> list[Any]:
        ids = {parent.info.run_id for parent in parents}
        return [run for run in self.all if run.data.tags.get("mlflow.parentRunId") in ids]

    def states(self) -> Counter[tuple[str, str | None]]:
        return Counter((run.info.status, run.data.tags.get("trial.state")) for run in self.trials)

    def files(self) -> Path:
        return Path(self.study[0].info.artifact_uri.removeprefix("file://"))


def _study(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=locate_storage(None).open(name))


# -- Complete searches


@pytest.mark.pictures
def test_a_search_ends_with_a_confirmed_winner() -> None:
    result = _tune(trials=12, pruner="median", seeds_per_trial=1)
    standing = result.standing
    assert standing.ended == 12
    assert standing.failed == 0
    assert standing.best is not None

    # Fresh seeds decide on the winner.
    assert [each.scores.n for each in result.confirmed] == [5, 5]
    assert {each.seed for each in result.confirmed[0].results} == {1, 2, 3, 4, 5}
    first, second = result.confirmed
    assert first.score.value >= second.score.value
    assert not result.was_overturned
    assert first.score.low <= first.score.value <= first.score.high

    _check_runs(result)
    _check_files(result)


def _check_runs(result: TuneResult) -> None:
    standing, champion = result.standing, result.confirmed[0].champion
    runs = _Runs()
    (parent,) = runs.study
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", result.study)
    assert runs.states() == Counter(
        {("FINISHED", "complete"): standing.complete, ("FINISHED", "pruned"): standing.pruned}
    )
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.trials} == {parent.info.run_id}
    assert {run.data.tags["dqnkit.study"] for run in runs.trials} == {result.study}
    confirmed = parent.data.metrics["study/confirmed_iqm"]
    assert confirmed == pytest.approx(result.confirmed[0].score.value)
    groups = runs.of_kind("confirmation")
    assert {run.data.tags["mlflow.parentRunId"] for run in groups} == {parent.info.run_id}
    seeds = runs.below(groups)
    assert len(seeds) == 10
    assert not any("dqnkit.study" in run.data.tags for run in seeds)  # they are not trials
    version = runs.client.get_model_version_by_alias("sought", "champion")
    assert version.run_id == champion.run_id
    assert result.model == "models:/sought@champion"


def _check_files(result: TuneResult) -> None:
    files = _Runs().files()
    names = {path.name for path in files.iterdir()}
    assert {"best.yaml", "trials.csv", "confirmation.csv", "search.html", "search"} <= names
    assert len(list((files / "search").iterdir())) == 5
    with (files / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(number) for number in range(12)]
    assert all(row["run_id"] for row in rows)
    best = loading.load(str(files / "best.yaml"))
    assert best == result.winner
    assert best.training.seed == result.confirmed[0].champion.seed
    text = (files / "best.yaml").read_text(encoding="utf-8")
    assert catalog.load_winner(locate_storage(None), result.study) == text


def test_the_value_of_a_trial_is_over_its_last_evaluations() -> None:
    result = _tune(trials=1, confirm=0, pruner="none")
    # The last five of ten evaluations have 0.6 to 1.0 of the final score.
    full = fake_training.score(_config())
    trial = _study(result.study).trials[0]
    assert trial.value == pytest.approx(0.8 * full)
    assert trial.intermediate_values[10] == trial.value
    assert trial.intermediate_values[2] == pytest.approx(0.15 * full)
    assert len(trial.intermediate_values) == 10


def test_a_trial_with_several_seeds_has_their_aggregate_and_a_run_for_each() -> None:
    result = _tune(trials=2, confirm=0, pruner="none", seeds_per_trial=4)
    values = [0.8 * fake_training.score(_config().with_seed(seed)) for seed in range(4)]
    assert _study(result.study).trials[0].value == pytest.approx(sum(values[1:3]) / 2)
    runs = _Runs()
    groups = runs.of_kind("trial")
    assert [run.info.status for run in groups] == ["FINISHED"] * 2
    assert {run.data.tags["trial.state"] for run in groups} == {"complete"}
    assert {run.data.tags["mlflow.parentRunId"] for run in groups} == {runs.study[0].info.run_id}
    assert len(runs.trials) == 8
    assert len(runs.below(groups)) == 8
    assert result.fresh_seed == 9  # after those of the search and of its confirmation


def test_wilcoxon_prunes_trials_between_seeds() -> None:
    result = _tune(trials=8, confirm=0, pruner="wilcoxon", seeds_per_trial=6, sampler="random")
    trials = _study(result.study).trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned
    assert all(1 < len(trial.intermediate_values) < 6 for trial in pruned)
    assert all(len(t.intermediate_values) == 6 for t in trials if t.state.name == "COMPLETE")


def test_pruned_trials_are_finished_runs() -> None:
    result = _tune(trials=15, confirm=0, sampler="random")
    assert result.standing.pruned > 0
    runs = _Runs()
    assert runs.states()["FINISHED", "pruned"] == result.standing.pruned
    pruned = next(run for run in runs.trials if run.data.tags["trial.state"] == "pruned")
    history = runs.client.get_metric_history(pruned.info.run_id, "eval/return_mean")
    assert max(point.step for point in history) < 100


def test_fresh_seeds_may_overturn_the_search() -> None:
    # With two workers, their pace would decide which other trials are pruned.
    result = _tune("tracking.tags={lucky: t001}", confirm=3, workers=1)
    assert result.standing.best is not None
    assert result.standing.best.number == 1
    assert result.was_overturned
    assert result.confirmed[0].trial.number != 1
    assert "overturned" in _Runs().study[0].data.tags["mlflow.note.content"]


def test_a_grid_ends_when_all_points_are_tried() -> None:
    result = _tune(
        "search.optimizer.learning_rate={type: categorical, choices: [1e-2, 1e-3, 1e-4]}",
        trials=50,
        sampler="grid",
        pruner="none",
        confirm=1,
    )
    assert result.standing.total == 3
    assert result.winner.optimizer.learning_rate == fake_training.BEST_RATE


@pytest.mark.parametrize("way", ["uri", "configuration"])
def test_without_a_record_the_study_has_the_winner(way: str) -> None:
    disabled = ["tracking.enabled=false"] if way == "configuration" else []
    result = _tune(*disabled, tracking_uri=None, trials=3)
    assert (result.run_id, result.model) == (None, None)
    assert not Path("mlruns/mlflow.db").exists()
    text = catalog.load_winner(locate_storage(None), result.study)
    assert loading.load_text(text, "winner") == result.winner


def test_the_seed_decides_a_search_with_one_worker() -> None:
    def trials(name: str, *assignments: str) -> list[Any]:
        _tune(*assignments, trials=12, workers=1, confirm=0, study=name, tracking_uri=None)
        return [(t.params, t.state, t.value) for t in _study(name).trials]

    # Hyperband's brackets depend on the name of the study, so it is used twice.
    first = trials("again")
    Path("mlruns/studies/again.journal").unlink()
    assert trials("again") == first
    assert trials("other", "training.seed=1") != first


# -- Events and results


def test_the_events_of_a_search_come_in_order() -> None:
    log = EventLog()
    result = _tune(trials=3, confirm=1, pruner="none", listener=log, tracking_uri=None)
    assert isinstance(log.events[0], SearchStarted)
    assert (log.events[0].study, log.events[0].workers) == (result.study, 2)
    ended = log.of_type(TrialEnded)
    assert [event.standing.ended for event in ended] == [1, 2, 3]
    (confirming,) = log.of_type(ConfirmationStarted)
    assert log.events.index(confirming) > log.events.index(ended[-1])
    runs = [e for e in log.events if isinstance(e, WorkerEvent) and isinstance(e.event, RunEnded)]
    assert len(runs) == 3 + 5


def test_hints_are_commands_for_what_to_do_next() -> None:
    result = _tune(trials=1, confirm=0, tracking_uri=None)
    assert result.hints["repeat"].endswith(f"dqnkit train --from-study {result.study}")
    journal = f"mlruns/studies/{result.study}.journal"
    assert result.hints["dashboard"] == f"uvx --with optuna optuna-dashboard {journal}"
    in_database = _tune(
        trials=1, confirm=0, tracking_uri=None, study="mine", storage="sqlite:///studies.db"
    )
    assert in_database.hints["repeat"].endswith("--storage sqlite:///studies.db")


def test_a_stored_experiment_contains_its_search_space() -> None:
    space = "search.agent.gamma={type: float, low: 0.9, high: 1.0}"
    _tune(space, trials=1, confirm=0, study="mine", tracking_uri=None)
    stored = search.stored_experiment("mine")
    assert stored is not None
    assert stored.search == _config(space).search
    assert search.stored_experiment("theirs") is None


def test_a_worse_search_leaves_the_champion_and_says_so() -> None:
    first = _tune(trials=2, confirm=1)
    assert first.model == "models:/sought@champion"
    log = EventLog()
    worse = ("training.num_iterations=30", "training.initial_collect_steps=20")
    second = _tune(*worse, trials=2, confirm=1, study="worse", listener=log)
    assert second.confirmed[0].score.value <= first.confirmed[0].score.value
    assert second.model == "models:/sought/2"
    assert any("the champion stays version 1" in text for text in log.warnings)
    # The search is complete, and what the warning advises is done all the same.
    third = _tune(*worse, trials=2, confirm=1, study="worse", promote=True, listener=log)
    assert third.model == "models:/sought@champion"
    assert any("the new champion replaces version 1" in text for text in log.warnings)


def test_what_could_not_be_recorded_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError("no models here")

    monkeypatch.setattr(editor.MlflowRunEditor, "_register", refuse)
    monkeypatch.setattr(editor, "_RETRY_SECONDS", 0.0)
    result = _tune(trials=2, confirm=1)
    assert result.model is None
    assert any("sought@champion" in each and "no models" in each for each in result.problems)
    assert catalog.load_winner(locate_storage(None), result.study)


def test_own_values_outside_the_space_are_a_problem() -> None:
    log = EventLog()
    result = _tune(
        "search.optimizer.learning_rate={type: float, low: 1e-5, high: 1e-4, log: true}",
        trials=2,
        confirm=0,
        tracking_uri=None,
        listener=log,
    )
    (problem,) = result.problems
    assert "own value 0.001 is outside the search space" in problem
    assert log.warnings == [problem]


# -- Failures


def test_failed_trials_are_repeated_or_replaced() -> None:
    log = EventLog()
    tags = "tracking.tags={diverges: t000, dies: t001, raises: t003}"
    # With one worker t001 is repeated as t002. With two, the order of events would decide.
    one = {"workers": 1, "confirm": 0, "pruner": "none"}
    result = _tune(tags, trials=6, listener=log, **one)
    assert (result.standing.complete, result.standing.failed) == (6, 3)
    trials = _study(result.study).trials
    for number in (1, 3):
        again = [t for t in trials if t.params == trials[number].params and t.number != number]
        assert [trial.state.name for trial in again] == ["COMPLETE"]
    assert not [t for t in trials if t.params == trials[0].params and t.number != 0]
    for number, cause in ((0, "nan"), (1, "signal 9"), (3, "the disk is gone")):
        (text,) = [text for text in log.warnings if text.startswith(f"trial {number} failed")]
        assert cause in text
        assert text in result.problems
    assert _Runs().states() == Counter({("FINISHED", "complete"): 6, ("FAILED", "failed"): 3})


def test_external_failures_in_a_row_end_the_search() -> None:
    with pytest.raises(StudyError, match=r"[56] trials in a row failed.*the disk is gone"):
        _tune("tracking.tags={raises: t0}", trials=20)
    runs = _Runs()
    assert [run.info.status for run in runs.study] == ["FAILED"]
    assert set(runs.states()) == {("FAILED", "failed")}


def test_a_search_without_a_complete_trial_has_no_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda _: True)
    with pytest.raises(StudyError, match=r"no trial .* is complete"):
        _tune(trials=2)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"trials": 0}, "trials=0"),
        ({"pruner": "wilcoxon"}, "pruner=wilcoxon"),
        ({"sampler": "grid"}, "sampler=grid"),
        ({"study": "../x"}, "study='../x'"),
        ({"storage": "here"}, "storage='here'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(
    options: dict[str, Any], argument: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        search.tune(_config(), TuneOptions(**options))
    assert str(caught.value).startswith(argument)
    assert not Path("mlruns").exists()


def test_another_definition_of_a_named_study_is_refused() -> None:
    _tune(trials=1, confirm=0, study="mine", tracking_uri=None)
    with pytest.raises(ArgumentError, match="`seeds_per_trial`: 1 in the study, 2 here"):
        _tune(trials=1, study="mine", seeds_per_trial=2, tracking_uri=None)


@pytest.mark.parametrize(
    "assignments",
    [
        ["evaluation.eval_interval=100"],
        [
            "evaluation.eval_interval=50",
            "search.training.num_iterations={type: int, low: 50, high: 200}",
        ],
    ],
)
def test_one_evaluation_is_too_few_for_a_value(assignments: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.eval_interval=\d+ gives one evaluation"):
        _tune(*assignments)


# -- Interruptions


def _interrupt_after(ended: int, *signals: int) -> Listener:
    """Make a listener that sends signals to this process once so many trials have ended."""
    pending = list(signals)

    def listener(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.standing.ended == ended:
            while pending:
                os.kill(os.getpid(), pending.pop())

    return listener


def test_an_interrupted_search_is_continued() -> None:
    slow = "tracking.tags={seconds: '0.05'}"
    listener = _interrupt_after(3, signal.SIGINT)
    with pytest.raises(InterruptedRun, match=r"SIGINT after [34] of 8 trials") as caught:
        _tune(slow, trials=8, pruner="none", listener=listener)
    (name,) = locate_storage(None).study_names()
    resume = f"dqnkit tune --trials 8 --workers 2 --study {name} --pruner none --confirm 2"
    assert resume in str(caught.value)
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
    (parent,) = _Runs().study  # the same run
    assert (parent.info.status, parent.info.run_id) == ("FINISHED", result.run_id)
    assert result.standing.failed == 0


def test_the_command_that_continues_has_the_store_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "check_store", lambda *_: None)
    uri = f"sqlite:///{Path.cwd()}/other.db"
    with pytest.raises(InterruptedRun) as caught:
        _tune(
            "tracking.tags={seconds: '0.05'}",
            trials=8,
            pruner="none",
            tracking_uri=uri,
            listener=_interrupt_after(1, signal.SIGTERM),
        )
    assert str(caught.value).endswith(f"--confirm 2 --tracking-uri {uri}")


def test_a_second_signal_ends_at_once_and_leaves_nothing_running() -> None:
    listener = _interrupt_after(1, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _tune("tracking.tags={seconds: '0.1'}", pruner="none", listener=listener)
    assert "RUNNING" not in {run.info.status for run in _Runs().all}
    (name,) = locate_storage(None).study_names()
    states = Counter(trial.state.name for trial in _study(name).trials)
    assert states["RUNNING"] == 0
    assert states["WAITING"] >= 1


class _ConfirmedSeeds:
    """A listener that counts confirmed seeds, and interrupts after a number of them."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.count = 0
        self._interrupt_after = interrupt_after
        self._confirms = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, ConfirmationStarted):
            self._confirms = True
        is_result = isinstance(event, WorkerEvent) and isinstance(event.event, RunEnded)
        if self._confirms and is_result:
            self.count += 1
            if self.count == self._interrupt_after:
                os.kill(os.getpid(), signal.SIGTERM)


def test_an_interrupted_confirmation_is_continued() -> None:
    with pytest.raises(InterruptedRun, match="its confirmation is not complete"):
        _tune(trials=3, pruner="none", listener=_ConfirmedSeeds(interrupt_after=3))
    groups = _Runs().of_kind("confirmation")
    assert {run.info.status for run in groups} <= {"FINISHED", "KILLED"}
    (name,) = locate_storage(None).study_names()
    stored = _study(name).user_attrs["dqnkit.confirmation"]
    done = sum(len(seeds) for seeds in stored.values())
    assert 3 <= done < 10

    counter = _ConfirmedSeeds()
    result = _tune(trials=3, pruner="none", study=name, listener=counter)
    assert counter.count == 10 - done
    assert [each.scores.n for each in result.confirmed] == [5, 5]


@pytest.mark.slow
def test_more_trials_may_follow() -> None:
    first = _tune(trials=3, confirm=0)
    more = _tune(trials=5, confirm=0, study=first.study)
    assert more.standing.ended == 5
    assert more.run_id == first.run_id
    assert len({str(t.params) for t in _study(first.study).trials}) == 5  # none drawn twice


@pytest.mark.slow
def test_a_finished_search_is_not_repeated() -> None:
    first = _tune(trials=3)
    again = _tune(trials=3, study=first.study)
    assert again.as_dict()["confirmed"] == first.as_dict()["confirmed"]
    assert len(_study(first.study).trials) == 3


@pytest.mark.slow
def test_after_a_timeout_the_best_trials_are_confirmed() -> None:
    result = _tune("tracking.tags={seconds: '0.05'}", trials=10_000, timeout=4.0, pruner="none")
    assert 0 < result.standing.ended < 10_000
    assert result.standing.failed == 0
    assert result.confirmed


PARENT = """
import sys
import pytest
from dqnkit.config import loading
from dqnkit.tuning import search
from dqnkit.tuning.options import TuneOptions
from tests import fake_training
if __name__ == "__main__":
    fake_training.install(pytest.MonkeyPatch())
    lengths = ["training.num_iterations=100", "evaluation.eval_interval=10"]
    config = loading.default_config("sought", lengths)
    search.tune(config, TuneOptions(trials=3, workers=1, confirm=1))
    loaded = {"tensorflow", "tf_agents", "tf_keras"} & set(sys.modules)
    sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


@pytest.mark.slow
@pytest.mark.pictures
def test_the_parent_process_of_a_search_does_not_load_tensorflow() -> None:
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


def test_an_environment_that_changes_the_folder_does_not_move_the_study() -> None:
    folder = Path.cwd()
    Path("map.txt").touch()
    kwargs = "env.kwargs={oddity: changes folder, reads: map.txt}"
    moving = ("env.id=tests.odd:Odd-v0", kwargs)
    _tune(*moving, trials=1, workers=1, confirm=0)
    assert Path.cwd() == folder
    assert (folder / "mlruns" / "mlflow.db").is_file()
    assert list((folder / "mlruns" / "studies").iterdir())
