from __future__ import annotations

import random

import optuna
import pytest
from optuna.trial import TrialState

from dqnkit.tuning import catalog, space
from dqnkit.tuning.attributes import INTERRUPTED, TrialAttr
from dqnkit.tuning.retrying_storage import GRACE_SECONDS
from dqnkit.tuning.samplers import grid_points
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.study import ClaimedTrial, SharedStudy, TrialTakenOverError
from dqnkit.workers.seed_jobs import ATTEMPTS
from tests.dqnkit.tuning.conftest import OpenStudy
from tests.dqnkit.tuning.helpers import (
    REMOTE_PROCESS,
    age_heartbeats,
    as_process,
    ask,
    dead_process,
    make_definition,
    make_plan,
)


def _states(study: SharedStudy) -> list[TrialState]:
    return [trial.state for trial in study.trials()]


def test_trial_0_is_the_experiment_itself(open_study: OpenStudy) -> None:
    study = open_study()
    claim = ask(study)
    assert claim.number == 0
    assert study.configuration(0) == study.definition.config
    assert study.configuration(ask(study).number) != study.definition.config


# -- Exactly N trials end


def test_no_more_trials_are_claimed_than_are_to_end(open_study: OpenStudy) -> None:
    study = open_study(total=3)
    claims = [ask(study) for _ in range(3)]
    assert study.ask() is None
    study.tell(claims[0], 1.0)
    assert study.ask() is None
    study.fail(claims[1].number, "it broke")
    replacement = ask(study)
    assert replacement.number == 3
    assert study.ask() is None
    study.tell(replacement, None)
    assert not study.is_done
    study.tell(claims[2], 2.0)
    assert study.is_done
    assert [trial.number for trial in study.ended()] == [0, 2, 3]


@pytest.mark.parametrize("seed", range(4))
def test_exactly_n_trials_end_in_random_interleavings(open_study: OpenStudy, seed: int) -> None:
    rng = random.Random(seed)
    processes = [open_study(total=7) for _ in range(3)]
    running: list[tuple[SharedStudy, ClaimedTrial]] = []
    for _ in range(1_000):
        study = rng.choice(processes)
        if study.is_done:
            break
        if running and rng.random() < 0.5:
            owner, claim = running.pop(rng.randrange(len(running)))
            match rng.randrange(4):
                case 0:
                    owner.fail(claim.number, "it broke", retry=rng.random() < 0.5)
                case 1:
                    owner.tell(claim, None)
                case _:
                    owner.tell(claim, rng.random())
        elif (next_claim := study.ask()) is not None:
            running.append((study, next_claim))
    assert all(study.is_done for study in processes)
    assert running == []
    assert len(processes[0].ended()) == 7
    assert all(state.is_finished() for state in _states(processes[0]))


def test_a_trial_too_many_is_given_back(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = open_study(total=2), open_study(total=2)
    ask(study)
    ask_optuna = study.study.ask

    def ask_after_the_other() -> optuna.Trial:
        assert other.ask() is not None
        return ask_optuna()

    monkeypatch.setattr(study.study, "ask", ask_after_the_other)
    assert study.ask() is None
    states = _states(study)
    assert states.count(TrialState.RUNNING) == 2
    assert states.count(TrialState.FAIL) == 1


def test_a_trial_whose_sampling_fails_is_given_back(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(total=1)
    with monkeypatch.context() as patched:
        patched.setattr(space.Space, "suggest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            study.ask()
    assert study.configuration(ask(study).number) == study.definition.config


# -- Failures and attempts


def test_the_same_values_are_tried_a_limited_number_of_times(open_study: OpenStudy) -> None:
    study = open_study(total=2)
    claim = ask(study)
    for attempt in range(1, ATTEMPTS + 1):
        is_retried = study.fail(claim.number, "it broke", retry=True)
        assert is_retried == (attempt < ATTEMPTS)
        if is_retried:
            retry = ask(study)
            assert retry.values == claim.values
            claim = retry
    assert ask(study).values != claim.values


def test_an_interruption_is_no_attempt(open_study: OpenStudy) -> None:
    study = open_study(total=1)
    values = study.values(ask(study).number)
    for number in range(2 * ATTEMPTS):
        assert study.fail(number, INTERRUPTED, retry=True, is_attempt=False)
        assert ask(study).values == values


def test_of_two_processes_that_fail_a_trial_one_enqueues_it_again(open_study: OpenStudy) -> None:
    study, other = open_study(total=3), open_study(total=3)
    claim = ask(study)
    assert study.fail(claim.number, INTERRUPTED, retry=True)
    assert other.fail(claim.number, INTERRUPTED, retry=True) is None
    assert _states(study).count(TrialState.WAITING) == 1


def test_a_repeated_trial_does_not_inherit_the_run(open_study: OpenStudy) -> None:
    study = open_study(total=1)
    first = ask(study)
    assert study.set_trial_attr(first, TrialAttr.RUN_ID, "first run")
    assert study.fail(first.number, "it broke", retry=True)
    retry = ask(study)
    assert retry.values == first.values
    assert TrialAttr.RUN_ID not in study.trials()[retry.number].user_attrs


def test_trial_0_survives_a_process_that_dies_before_it_samples(open_study: OpenStudy) -> None:
    study = open_study(total=2)
    lost = study.study.ask()
    study.fail(lost.number, INTERRUPTED, retry=True)
    assert study.configuration(ask(study).number) == study.definition.config


def test_a_result_whose_acknowledgement_was_lost_counts(open_study: OpenStudy) -> None:
    study = open_study(total=2)
    for value, state in ((1.0, TrialState.COMPLETE), (None, TrialState.PRUNED)):
        claim = ask(study)
        study.study.tell(claim.trial, value, state)
        assert study.tell(claim, value)


# -- Processes that die


def test_trials_of_dead_processes_are_repeated_and_those_of_living_ones_are_not(
    open_study: OpenStudy,
) -> None:
    study = open_study(total=4)
    own = ask(study)
    with as_process(dead_process()):
        lost = ask(study)
    (reaped,) = open_study(total=4).reap()
    assert reaped.number == lost.number
    assert study.reap() == []
    assert ask(study).values == lost.values
    assert _states(study)[own.number] is TrialState.RUNNING
    assert _states(study)[lost.number] is TrialState.FAIL


def test_running_elsewhere_leaves_out_own_trials(open_study: OpenStudy) -> None:
    study = open_study()
    ask(study)
    assert study.running_elsewhere() == []
    assert study.other_active_process() is None
    with as_process(REMOTE_PROCESS):
        remote = ask(open_study())
    assert [trial.number for trial in study.running_elsewhere()] == [remote.number]
    assert study.other_active_process() == REMOTE_PROCESS


def test_the_trial_of_a_host_without_heartbeats_is_taken_over(
    storage: StudyStorage, open_study: OpenStudy
) -> None:
    if storage.url is None:
        pytest.skip("a journal belongs to one host")
    study = open_study(total=3)
    with as_process(REMOTE_PROCESS):
        remote = open_study(total=3)
        claim = ask(remote)
        remote.release(claim)  # stops its heartbeats
    assert study.reap() == []
    age_heartbeats(storage, GRACE_SECONDS + 5)
    assert study.other_active_process() is None
    assert [trial.number for trial in study.reap()] == [claim.number]
    assert ask(study).values == claim.values

    # The host was only cut off. It notices, and changes nothing.
    assert not remote.report(claim, 1.0, 1)
    assert not remote.set_trial_attr(claim, "key", "value")
    assert remote.fail(claim.number, "it broke") is None
    assert not remote.tell(claim, 1.0)
    assert not remote.tell(claim, None)
    assert _states(study) == [TrialState.FAIL, TrialState.RUNNING]


def test_a_trial_that_is_taken_over_while_it_is_claimed_is_reported(
    open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = open_study(total=2), open_study(total=2)
    claim_trial = study._heartbeats.claim

    def claim_and_lose(trial: optuna.Trial) -> None:
        claim_trial(trial)
        other.fail(trial.number, INTERRUPTED, retry=True, is_attempt=False)

    with monkeypatch.context() as patched:
        patched.setattr(study._heartbeats, "claim", claim_and_lose)
        with pytest.raises(TrialTakenOverError, match="trial 0 was taken over"):
            study.ask()
    assert study.configuration(ask(study).number) == study.definition.config


# -- Grids and attributes


def test_a_grid_is_tried_point_by_point(storage: StudyStorage) -> None:
    definition = make_definition(
        "search.optimizer.learning_rate={type: categorical, choices: [1e-3, 1e-4]}",
        "search.training.batch_size={type: int, low: 32, high: 64, step: 32}",
    )
    points = grid_points(definition.space)
    study = catalog.open_study(storage, "a-grid", definition, make_plan(50, points))
    assert study.total == 4
    claims = [ask(study) for _ in range(4)]
    assert study.ask() is None
    params = [claim.trial.params for claim in claims]
    assert params[0] == {"optimizer.learning_rate": 1e-3, "training.batch_size": 64}
    assert sorted(map(str, params)) == sorted(map(str, points))

    # A point that cannot be trained is given up, and the grid ends without it.
    study.fail(claims[1].number, "the loss became nan")
    assert study.ask() is None
    for claim in (claims[0], claims[2], claims[3]):
        study.tell(claim, 1.0)
    assert study.total == 3
    assert study.is_done


def test_attributes_are_shared(open_study: OpenStudy) -> None:
    study = open_study()
    assert study.get_attr("key") is None
    study.set_attr("key", {"a": [1, None]})
    assert open_study().get_attr("key") == {"a": [1, None]}


def test_the_lock_can_be_taken_again_after_an_error(open_study: OpenStudy) -> None:
    study = open_study()
    with pytest.raises(ZeroDivisionError), study.lock():
        raise ZeroDivisionError
    with study.lock():
        pass
