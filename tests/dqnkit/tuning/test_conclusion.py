"""The end of a search, with simulated training and without a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.errors import StudyError
from dqnkit.events import ConfirmationStarted, RunStatus
from dqnkit.processes.interrupts import Interrupts
from dqnkit.tracking.names import CHAMPION, Tag
from dqnkit.tuning import conclusion
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.conclusion import Conclusion, ConclusionResult
from dqnkit.tuning.lease import CONCLUSION, Lease
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.orders import Task
from tests.dqnkit.tuning.helpers import (
    REMOTE_PROCESS,
    EventLog,
    InstantPool,
    RecordingEditor,
    as_process,
    ask,
    dead_process,
)

JournalStudy = Callable[..., SharedStudy]


@pytest.fixture(autouse=True)
def _poll_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "_POLL_SECONDS", 0.05)


@pytest.fixture
def study(journal_study: JournalStudy) -> SharedStudy:
    study = journal_study(3)
    for value in (3.0, 2.0, 1.0):
        study.tell(ask(study), value)
    return study


class End:
    """A conclusion with everything that it writes to."""

    def __init__(self, study: SharedStudy, confirm: int = 2) -> None:
        self.study_run = StudyRun(study, None)
        self.editor = RecordingEditor()
        self.study_run.editor = self.editor
        self.log = EventLog()
        self.interrupts = Interrupts()
        self.pool = InstantPool(_score)
        self.conclusion = Conclusion(study, self.study_run, self.log, TuneOptions(confirm=confirm))

    def run(self) -> ConclusionResult | None:
        pool: Any = self.pool
        return self.conclusion.run(pool, self.interrupts)


def _score(task: Task) -> float:
    """Score trial 1 above trial 0, and its third fresh seed above its others."""
    number = int(task.run_name.split("-t")[1][:3])
    return 10.0 * number + (task.config.training.seed == 3)


def test_the_best_confirmed_trial_wins_and_its_best_seed_is_registered(
    study: SharedStudy,
) -> None:
    end = End(study)
    result = end.run()
    assert result is not None
    assert [each.trial.number for each in result.confirmed] == [1, 0]
    assert result.winner == study.configuration(1).with_seed(3)
    assert result.model == "models:/searched@champion"
    (registered,) = end.editor.registered
    run_id, model, alias, tags = registered
    assert run_id == "run-searched-1-confirms-t001-s3"
    assert (model, alias) == ("searched", CHAMPION)
    assert (tags["study"], tags["trial"], tags["fresh_seeds"]) == ("searched-1", "1", "5")
    (started,) = end.log.of_type(ConfirmationStarted)
    assert [each.number for each in started.candidates] == [0, 1]
    assert (started.seeds, started.runs_left) == ((1, 2, 3, 4, 5), 10)
    text = study.get_attr(StudyAttr.WINNER)
    assert loading.load_text(text, "winner") == result.winner
    assert end.editor.orphans == [{Tag.CONFIRMS: "searched-1"}]


def test_a_conclusion_is_not_repeated(study: SharedStudy) -> None:
    first = End(study).run()
    end = End(study)
    again = end.run()
    assert first is not None
    assert again is not None
    assert (again.winner, again.model) == (first.winner, first.model)
    assert end.pool.tasks == []
    assert end.editor.registered == []
    assert end.log.of_type(ConfirmationStarted) == []


def test_without_confirmation_the_best_of_the_search_wins(study: SharedStudy) -> None:
    end = End(study, confirm=0)
    result = end.run()
    assert result == ConclusionResult((), study.configuration(0), None)
    assert end.pool.tasks == []
    assert "Not confirmed" in study.get_attr(StudyAttr.WINNER)


def test_a_model_that_cannot_be_registered_costs_only_the_model(study: SharedStudy) -> None:
    end = End(study)
    end.editor.version = None
    result = end.run()
    assert result is not None
    assert result.model is None
    assert study.get_attr(StudyAttr.WINNER)


def test_a_search_without_a_complete_trial_has_no_winner(journal_study: JournalStudy) -> None:
    study = journal_study(1)
    study.tell(ask(study), None)
    with pytest.raises(StudyError, match="no trial of the study 'searched-1' is complete"):
        End(study).run()


def test_failed_seeds_are_problems(study: SharedStudy) -> None:
    end = End(study, confirm=1)
    end.pool = InstantPool(lambda task: None if task.config.training.seed == 2 else 1.0)
    result = end.run()
    assert result is not None
    assert result.confirmed[0].scores.n == 4
    assert end.conclusion.problems == ["searched-1-confirms-t000-s2: it broke"]


def test_an_interruption_leaves_the_rest_for_the_next_start(study: SharedStudy) -> None:
    end = End(study)

    def interrupt(task: Task) -> float:
        end.interrupts.request(RunStatus.KILLED)
        return _score(task)

    end.pool = InstantPool(interrupt)
    assert end.run() is None
    assert study.get_attr(StudyAttr.WINNER) is None
    later = End(study)
    assert later.run() is not None
    assert len(later.pool.tasks) == 9


def test_another_process_is_waited_for(study: SharedStudy) -> None:
    released = threading.Event()
    with as_process(REMOTE_PROCESS):
        lease = Lease(study.study, CONCLUSION)
        held = lease.try_acquire()
        assert held.__enter__()
    end = End(study, confirm=0)

    def release() -> None:
        deadline = time.monotonic() + 30
        while not end.log.warnings and time.monotonic() < deadline:
            time.sleep(0.05)
        held.__exit__(None, None, None)
        released.set()

    thread = threading.Thread(target=release)
    thread.start()
    assert end.run() is not None
    thread.join(30)
    assert released.is_set()
    assert end.log.warnings == ["waiting for elsewhere, which confirms the best trials"]


def test_a_process_that_died_while_it_confirmed_is_replaced(study: SharedStudy) -> None:
    with as_process(dead_process()):
        held = Lease(study.study, CONCLUSION).try_acquire()
        assert held.__enter__()
    assert End(study, confirm=0).run() is not None


def test_a_process_that_lost_the_lease_tries_again(
    study: SharedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = End(study, confirm=0)
    answers = [False, True]
    monkeypatch.setattr(Lease, "is_held", property(lambda _: answers.pop(0)))
    assert end.run() is not None
    assert answers == []


def test_an_interrupted_wait_ends(study: SharedStudy) -> None:
    with as_process(REMOTE_PROCESS):
        held = Lease(study.study, CONCLUSION).try_acquire()
        assert held.__enter__()
    end = End(study)
    threading.Timer(0.3, lambda: end.interrupts.request(RunStatus.KILLED)).start()
    assert end.run() is None
    assert end.pool.tasks == []
