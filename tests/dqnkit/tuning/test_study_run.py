"""The run of a study, in a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dqnkit.errors import InterruptedRun, TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts
from dqnkit.tracking.editor import RegisteredPolicy
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tracking.names import Tag
from dqnkit.tuning import figures
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun, check_store
from tests.dqnkit.tuning.helpers import (
    REMOTE_PROCESS,
    RecordingEditor,
    as_process,
    ask,
    make_confirmed,
    make_definition,
)
from tests.runs import make_store

JournalStudy = Callable[..., SharedStudy]
OPTIONS = TuneOptions(trials=5, pruner="none")


@pytest.fixture
def study(journal_study: JournalStudy) -> SharedStudy:
    make_store()
    study = journal_study(2)
    study.tell(ask(study), 3.0)
    return study


def _runs() -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(locate_store().uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(ids))


def _run() -> Any:
    (run,) = _runs()
    return run


def test_the_run_records_definition_and_options(study: SharedStudy) -> None:
    with StudyRun(study, AUTO).open(OPTIONS, Interrupts()):
        assert _run().info.status == "RUNNING"
    run = _run()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "searched-1")
    assert run.data.tags[Tag.KIND] == "study"
    assert run.data.tags[Tag.STUDY] == "searched-1"
    params = run.data.params
    assert (params["tune.sampler"], params["tune.pruner"]) == ("tpe", "none")
    assert params["tune.seeds_per_trial"] == "1"
    assert "log" in params["search.optimizer.learning_rate"]
    assert run.data.metrics["study/complete"] == 1
    assert run.data.metrics["study/best_value"] == 3.0
    assert "1 trials complete" in run.data.tags[Tag.NOTE]
    assert study.get_attr(StudyAttr.RUN_ID) == run.info.run_id


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InterruptedRun("stop"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (RuntimeError("broken"), "FAILED"),
    ],
)
def test_the_run_is_closed_with_the_true_status(
    study: SharedStudy, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), StudyRun(study, AUTO).open(OPTIONS, Interrupts()):
        raise error
    assert _run().info.status == status
    assert "best.yaml" not in _run().data.tags[Tag.NOTE]


def test_a_later_start_continues_the_run(study: SharedStudy) -> None:
    ids = set()
    for _ in range(2):
        study_run = StudyRun(study, AUTO)
        with study_run.open(OPTIONS, Interrupts()):
            ids.add(study_run.run_id)
    assert ids == {_run().info.run_id}


@pytest.mark.parametrize("work", ["trial", "conclusion"])
def test_a_run_that_other_processes_continue_stays_open(study: SharedStudy, work: str) -> None:
    held = Lease(study.study, CONCLUSION).try_acquire()
    with as_process(REMOTE_PROCESS):
        if work == "trial":
            ask(study)
        else:
            assert held.__enter__()
    with pytest.raises(InterruptedRun), StudyRun(study, AUTO).open(OPTIONS, Interrupts()):
        raise InterruptedRun("stop")
    assert _run().info.status == "RUNNING"
    assert _run().data.tags[Tag.PROCESS] == REMOTE_PROCESS


def test_confirmed_trials_are_metrics_and_files(
    study: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(figures, "draw", lambda _, folder: drawn.append(folder))
    study_run = StudyRun(study, AUTO)
    with study_run.open(OPTIONS, Interrupts()):
        study_run.set_confirmed([make_confirmed(0, 3.0, [2.0, 2.0])])
        study_run.add_files("name: searched\n")
    run = _run()
    assert run.data.metrics["study/confirmed_iqm"] == 2.0
    assert run.data.metrics["study/confirmed_ci_high"] == 2.0
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "best.yaml").read_text(encoding="utf-8") == "name: searched\n"
    assert {"best.yaml", "trials.csv", "confirmation.csv"} <= {p.name for p in folder.iterdir()}
    assert len(drawn) == 1
    assert study_run.problems == []


def test_figures_that_cannot_be_drawn_are_a_problem(
    study: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "draw", lambda *_: 1 / 0)
    study_run = StudyRun(study, AUTO)
    with study_run.open(OPTIONS, Interrupts()):
        study_run.add_files("name: searched\n")
    assert study_run.problems == ["the figures could not be drawn: division by zero"]


def test_nothing_is_recorded_without_a_store(
    study: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "draw", lambda *_: 1 / 0)
    study_run = StudyRun(study, None)
    with study_run.open(OPTIONS, Interrupts()):
        study_run.add_files("name: searched\n")
    assert (study_run.run_id, study_run.hints, study_run.problems) == (None, {}, [])
    assert _runs() == []


def test_the_champion_is_registered_with_its_score(study: SharedStudy) -> None:
    study_run = StudyRun(study, None)
    study_run.editor = editor = RecordingEditor()
    best = make_confirmed(4, 3.0, [1.0, 2.0], ["run-1", "run-2"])
    assert study_run.register(best) == ("models:/searched@champion", None)
    ((run_id, model, alias, tags),) = editor.registered
    assert (run_id, model, alias) == ("run-2", "searched", "champion")
    assert tags == {
        "study": "searched-1",
        "trial": "4",
        "confirmed_iqm": "1.5",
        "confirmed_interval": "1 to 2",
        "fresh_seeds": "2",
        "env": "CartPole-v1",
    }
    assert editor.marked == [("run-2", {Tag.COLOR: "#d4a017"}, None)]
    editor.version = None
    assert study_run.register(best) == (None, None)


def test_a_worse_winner_is_registered_and_the_champion_stays(study: SharedStudy) -> None:
    study_run = StudyRun(study, None)
    study_run.editor = editor = RecordingEditor()
    best = make_confirmed(4, 3.0, [1.0, 2.0], ["run-1", "run-2"])
    tags = {"confirmed_iqm": "500", "confirmed_interval": "490 to 500"}
    editor.version, editor.champion = "7", RegisteredPolicy("3", "CartPole-v1", tags)
    uri, remark = study_run.register(best)
    assert uri == "models:/searched/7"
    assert remark == (
        "the champion stays version 3 with 500 (490 to 500), against 1.5 (1 to 2) now; "
        "`promote` makes the new winner the champion"
    )
    assert editor.marked == []
    uri, remark = study_run.register(best, promote=True)
    assert uri == "models:/searched@champion"
    assert remark is not None
    assert remark.startswith("the new champion replaces version 3 with 500")


def test_a_champion_without_a_recorded_run_is_not_registered(study: SharedStudy) -> None:
    study_run = StudyRun(study, None)
    study_run.editor = editor = RecordingEditor()
    assert study_run.register(make_confirmed(4, 3.0, [1.0])) == (None, None)
    assert editor.registered == []


def test_runs_of_killed_workers_are_ended(study: SharedStudy) -> None:
    study_run = StudyRun(study, None)
    study_run.editor = editor = RecordingEditor()
    with study_run.open(OPTIONS, Interrupts()):
        pass
    assert editor.end_stale_calls == 1


def test_a_signal_does_not_interrupt_the_end_of_the_record(
    study: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = Interrupts()
    study_run = StudyRun(study, None)

    def finish(status: RunStatus, **_: object) -> list[str]:
        interrupts.handle(2)
        interrupts.handle(2)  # would raise KeyboardInterrupt
        return ["told"]

    monkeypatch.setattr(study_run._tracker, "finish", finish)
    with study_run.open(OPTIONS, interrupts):
        pass
    assert study_run.problems == ["told"]


def test_a_store_that_does_not_answer_is_refused() -> None:
    config = make_definition().config
    check_store(config, None)
    with pytest.raises(TrackingError):
        check_store(config, "http://127.0.0.1:9")
