"""Confirmation, with simulated training and without a record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit.events import RunStatus, ignore
from dqnkit.processes.interrupts import Interrupts
from dqnkit.tracking.names import Tag
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.confirmation import Confirmation, choose_candidates
from dqnkit.tuning.standing import TrialScore, best_trials
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.workers.dispatcher import run_jobs
from dqnkit.workers.orders import Task
from tests.dqnkit.tuning.helpers import InstantPool, ask

JournalStudy = Callable[..., SharedStudy]
Score = Callable[[Task], float | None]


@pytest.fixture
def study(journal_study: JournalStudy) -> SharedStudy:
    """A study with three complete trials, of values 3, 2 and 1."""
    study = journal_study(3)
    for value in (3.0, 2.0, 1.0):
        study.tell(ask(study), value)
    return study


def _confirm(
    study: SharedStudy, score: Score, candidates: list[TrialScore] | None = None
) -> tuple[Confirmation, InstantPool]:
    chosen = best_trials(study, 3) if candidates is None else candidates
    confirmation = Confirmation(study, chosen, StudyRun(study, None))
    pool = InstantPool(score)
    run_jobs(pool, confirmation.jobs, ignore, Interrupts())  # type: ignore[arg-type]
    return confirmation, pool


def _number(task: Task) -> int:
    """Return the number of the trial that a run confirms."""
    return int(task.run_name.split("-t")[1][:3])


def test_each_candidate_is_trained_with_five_fresh_seeds(study: SharedStudy) -> None:
    confirmation, pool = _confirm(study, lambda _: 1.0, best_trials(study, 2))
    assert confirmation.seeds == (1, 2, 3, 4, 5)
    assert [task.run_name for task in pool.tasks] == [
        f"searched-1-confirms-t00{number}-s{seed}" for number in (0, 1) for seed in range(1, 6)
    ]
    for task in pool.tasks:
        config = study.configuration(_number(task)).with_seed(task.config.training.seed)
        assert task.config == config
        assert task.parent.tags == {Tag.CONFIRMS: "searched-1"}
    assert [each.scores.n for each in confirmation.ranked()] == [5, 5]


def test_what_was_confirmed_stays_a_candidate(study: SharedStudy) -> None:
    _confirm(study, lambda task: float(_number(task)), best_trials(study, 2))
    for count, numbers in ((0, [0, 1]), (1, [0, 1]), (2, [0, 1]), (3, [0, 1, 2])):
        candidates = choose_candidates(study, count)
        assert [each.number for each in candidates] == numbers
    confirmation, pool = _confirm(study, lambda _: 0.0, choose_candidates(study, 1))
    assert pool.tasks == []  # all results are there
    assert [each.trial.number for each in confirmation.ranked()] == [1, 0]


def test_an_incomplete_confirmation_is_not_finished_by_a_smaller_one(study: SharedStudy) -> None:
    _confirm(study, lambda _: 1.0, best_trials(study, 2))
    results = study.get_attr(StudyAttr.CONFIRMATION)
    del results["1"]["3"]
    study.set_attr(StudyAttr.CONFIRMATION, results)
    assert [each.number for each in choose_candidates(study, 1)] == [0]
    assert [each.number for each in choose_candidates(study, 0)] == [0]


def test_candidates_are_ranked_by_their_confirmed_score(study: SharedStudy) -> None:
    confirmation, _ = _confirm(study, lambda task: float(_number(task)))
    assert [each.trial.number for each in confirmation.ranked()] == [2, 1, 0]


def test_equal_scores_are_ranked_by_the_interval_then_by_the_search(study: SharedStudy) -> None:
    confirmation, _ = _confirm(study, lambda _: 5.0)
    assert [each.trial.number for each in confirmation.ranked()] == [0, 1, 2]

    def wider_for_trial_0(task: Task) -> float:
        offsets = [-4.0, 0.0, 0.0, 0.0, 4.0] if _number(task) == 0 else [0.0] * 5
        return 5.0 + offsets[task.config.training.seed - 1]

    study.set_attr(StudyAttr.CONFIRMATION, {})
    confirmation, _ = _confirm(study, wider_for_trial_0)
    assert confirmation.ranked()[-1].trial.number == 0


def test_a_candidate_with_failed_seeds_ranks_last(study: SharedStudy) -> None:
    def fail_once(task: Task) -> float | None:
        is_failure = _number(task) == 0 and task.config.training.seed == 3
        return None if is_failure else 10.0 - _number(task)

    confirmation, _ = _confirm(study, fail_once)
    assert [(each.trial.number, each.scores.n) for each in confirmation.ranked()] == [
        (1, 5),
        (2, 5),
        (0, 4),
    ]
    assert confirmation.jobs.failures == ["searched-1-confirms-t000-s3: it broke"]


def test_a_candidate_without_a_result_is_not_ranked(study: SharedStudy) -> None:
    confirmation, _ = _confirm(study, lambda task: None if _number(task) == 1 else 1.0)
    assert [each.trial.number for each in confirmation.ranked()] == [0, 2]


def test_results_are_stored_and_not_trained_again(study: SharedStudy) -> None:
    first, _ = _confirm(study, lambda task: float(_number(task)))
    again, pool = _confirm(study, lambda _: 1 / 0)
    assert pool.tasks == []
    assert again.jobs.left == 0
    assert again.ranked() == first.ranked()
    stored = study.get_attr(StudyAttr.CONFIRMATION)
    assert sorted(stored) == ["0", "1", "2"]
    assert sorted(stored["0"]) == ["1", "2", "3", "4", "5"]


def test_an_interrupted_confirmation_continues(study: SharedStudy) -> None:
    interrupts = Interrupts()

    def interrupt_third(task: Task) -> float:
        if len(pool.tasks) == 3:
            interrupts.request(RunStatus.KILLED)
        return 1.0

    pool = InstantPool(interrupt_third)
    confirmation = Confirmation(study, best_trials(study, 1), StudyRun(study, None))
    run_jobs(pool, confirmation.jobs, ignore, interrupts)  # type: ignore[arg-type]
    assert confirmation.jobs.left == 2
    _, pool = _confirm(study, lambda _: 1.0, best_trials(study, 1))
    assert [task.config.training.seed for task in pool.tasks] == [4, 5]
