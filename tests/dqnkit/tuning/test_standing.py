from __future__ import annotations

from collections.abc import Callable

from dqnkit.tuning.attributes import INTERRUPTED, TrialAttr
from dqnkit.tuning.standing import Standing, best_trials, standing_of
from dqnkit.tuning.study import SharedStudy
from tests.dqnkit.tuning.helpers import ask

JournalStudy = Callable[..., SharedStudy]


def _complete(study: SharedStudy, value: float, mean: float = 0.0) -> int:
    claim = ask(study)
    study.set_trial_attr(claim, TrialAttr.MEAN, mean)
    study.tell(claim, value)
    return claim.number


def test_a_new_study_has_no_best_trial(journal_study: JournalStudy) -> None:
    assert standing_of(journal_study(7)) == Standing(7, 0, 0, 0, None)


def test_trials_are_counted_by_state(journal_study: JournalStudy) -> None:
    study = journal_study(7)
    study.tell(ask(study), None)
    study.fail(ask(study).number, "it broke")
    study.fail(ask(study).number, INTERRUPTED)
    best = _complete(study, 5.0)
    ask(study)
    standing = standing_of(study)
    assert (standing.complete, standing.pruned, standing.failed) == (1, 1, 1)
    assert standing.ended == 2
    assert standing.best is not None
    assert (standing.best.number, standing.best.value) == (best, 5.0)
    assert standing.best.values == study.values(best)


def test_trials_are_ranked_by_value_then_mean_then_number(journal_study: JournalStudy) -> None:
    study = journal_study(6)
    for value, mean in ((1.0, 9.0), (3.0, 1.0), (3.0, 2.0), (2.0, 0.0), (3.0, 2.0)):
        _complete(study, value, mean)
    assert [each.number for each in best_trials(study, 4)] == [2, 4, 1, 3]
    assert [each.number for each in best_trials(study, 99)] == [2, 4, 1, 3, 0]
    assert best_trials(study, 0) == []


def test_a_configuration_is_listed_once(journal_study: JournalStudy) -> None:
    study = journal_study(4)
    first = _complete(study, 5.0)
    study.study.enqueue_trial(study.trials()[first].params)
    _complete(study, 5.0)
    other = _complete(study, 1.0)
    assert [each.number for each in best_trials(study, 3)] == [first, other]
