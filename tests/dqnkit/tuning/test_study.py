"""A study in which exactly N trials end: one suite for each kind of storage."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, StudyError
from dqnkit.processes import identity
from dqnkit.tuning import rdb, space, storage, study
from dqnkit.tuning.samplers import grid_points, make_pruner, make_sampler
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.study import BEST, RUN, ClaimedTrial, SharedStudy, StudyDefinition, StudyPlan
from dqnkit.workers.seed_jobs import ATTEMPTS

Open = Callable[..., SharedStudy]


def _purpose(*assignments: str, seeds_per_trial: int = 1) -> StudyDefinition:
    config, _ = resolve(loading.default_config("searched", assignments))
    return StudyDefinition(config, space.of(config), seeds_per_trial)


@pytest.fixture
def open_study(place: StudyStorage) -> Open:
    def call(total: int = 5, name: str = "searched-1", *assignments: str) -> SharedStudy:
        plan = StudyPlan(total, partial(make_sampler, "random", 0), make_pruner("none", 5, 1))
        return study.open_study(place, name, _purpose(*assignments), plan)

    return call


def _ask(shared: SharedStudy) -> ClaimedTrial:
    claim = shared.ask()
    assert claim is not None
    return claim


def test_the_first_trial_is_the_experiment_itself(open_study: Open) -> None:
    shared = open_study()
    claim = _ask(shared)
    assert claim.number == 0
    assert shared.configuration(0) == shared.purpose.config
    assert shared.configuration(_ask(shared).number) != shared.purpose.config


def test_no_more_are_claimed_than_are_to_end(open_study: Open) -> None:
    shared = open_study(total=3)
    claims = [_ask(shared) for _ in range(3)]
    assert shared.ask() is None
    shared.study.tell(claims[0].trial, 1.0)
    assert shared.ask() is None
    shared.fail(claims[1].number, "it broke")
    again = _ask(shared)
    assert again.number == 3
    assert shared.ask() is None
    shared.study.tell(again.trial, state=TrialState.PRUNED)
    assert not shared.is_done
    shared.study.tell(claims[2].trial, 2.0)
    assert shared.is_done


def test_a_trial_is_tried_again_with_the_same_values_and_not_for_ever(open_study: Open) -> None:
    shared = open_study(total=2)
    first = _ask(shared)
    for attempt in range(1, ATTEMPTS + 1):
        retried = shared.fail(first.number, "it broke", again=True)
        assert retried == (attempt < ATTEMPTS)
        if retried:
            again = _ask(shared)
            assert again.values == first.values
            first = again
    assert _ask(shared).values != first.values


def test_the_experiments_own_trial_is_not_lost_with_a_process_that_dies_early(
    open_study: Open,
) -> None:
    shared = open_study(total=2)
    asked = shared.study.ask()  # and dies before it has chosen anything
    shared.fail(asked.number, "interrupted", again=True)
    assert shared.configuration(_ask(shared).number) == shared.purpose.config


def test_an_interruption_is_no_attempt(open_study: Open) -> None:
    shared = open_study(total=1)
    values = shared.values(_ask(shared).number)
    for number in range(2 * ATTEMPTS):
        assert shared.fail(number, "interrupted", again=True, counts=False)
        assert _ask(shared).values == values


def test_trials_of_a_dead_process_are_tried_again_and_those_of_a_living_are_not(
    open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = open_study(total=4)
    mine = _ask(shared)
    with monkeypatch.context() as patched:
        host, boot, space_, *_ = identity.identity().split("/")
        patched.setattr(identity, "identity", lambda: f"{host}/{boot}/{space_}/999999999/1")
        lost = _ask(shared)
    (reaped,) = open_study(total=4).reap()
    assert reaped.number == lost.number
    assert shared.reap() == []
    again = _ask(shared)
    assert again.values == lost.values
    states = [trial.state for trial in shared.trials()]
    assert states[mine.number] is TrialState.RUNNING
    assert states[lost.number] is TrialState.FAIL


def test_a_trial_whose_process_died_before_it_gave_its_name_is_found(
    open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = open_study(total=2)
    lost = shared.study.ask()
    assert shared.reap() == []  # it might be about to

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert [trial.number for trial in shared.reap()] == [lost.number]


def test_a_trial_of_a_host_that_is_silent_is_tried_again_and_no_earlier(
    place: StudyStorage, open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process on another host nothing is known but its heartbeat."""
    shared = open_study(total=3)
    with monkeypatch.context() as patched:
        patched.setattr(identity, "identity", lambda: "elsewhere/boot/pid:[1]/7/7")
        far = open_study(total=3)
        claim = _ask(far)
        far._liveness.let_go(claim.trial)  # which stops its heartbeat
    assert shared.another_at_work() == "elsewhere/boot/pid:[1]/7/7"
    assert shared.reap() == []
    if place.url is None:
        return  # a journal is of one host
    _let_time_pass(place, rdb.GRACE_SECONDS + 5)
    assert shared.another_at_work() is None
    assert [trial.number for trial in shared.reap()] == [claim.number]
    assert _ask(shared).values == claim.values

    # It was only cut off: it learns that the trial is not its own any more, and breaks nothing.
    assert not far.report(claim, 1.0, 1)
    assert not far.note(claim, "key", "value")
    assert far.fail(claim.number, "it broke") is None
    assert not far.tell(claim, 1.0)
    assert not far.tell(claim, None)
    states = [trial.state for trial in shared.trials()]
    assert states == [TrialState.FAIL, TrialState.RUNNING]


def test_a_retried_trial_inherits_no_run(open_study: Open) -> None:
    """A trial's run is an attribute of it, and must not become one of the next."""
    shared = open_study(total=1)
    first = _ask(shared)
    assert shared.note(first, RUN, "the dead one's")
    assert shared.fail(first.number, "it broke", again=True)
    again = _ask(shared)
    assert again.values == first.values
    assert RUN not in shared.trials()[again.number].user_attrs


def test_a_lost_answer_is_no_lost_trial(open_study: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage has taken it, but who told it asks once more."""
    shared = open_study(total=2)
    for value, state in ((1.0, TrialState.COMPLETE), (None, TrialState.PRUNED)):
        claim = _ask(shared)
        shared.study.tell(claim.trial, value, state)
        assert shared.tell(claim, value)


def test_heartbeats_go_on_while_a_trial_is_held(
    place: StudyStorage, open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.url is None:
        pytest.skip("a journal has none")
    monkeypatch.setattr(rdb, "HEARTBEAT_SECONDS", 1)
    shared = open_study(total=1)
    claim = _ask(shared)
    before = _heartbeat(place)
    deadline = time.monotonic() + 20
    while _heartbeat(place) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shared.tell(claim, 1.0)


def _heartbeat(place: StudyStorage) -> str:
    assert place.url is not None
    engine = sqlalchemy.create_engine(place.url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return str(
            connection.execute(sqlalchemy.text("SELECT heartbeat FROM trial_heartbeats")).all()
        )


def _let_time_pass(place: StudyStorage, seconds: int) -> None:
    """For the heartbeats that the database has."""
    assert place.url is not None
    earlier = {
        "postgresql": f"heartbeat - interval '{seconds} seconds'",
        "sqlite": f"datetime(heartbeat, '-{seconds} seconds')",
    }[place.url.get_backend_name()]
    engine = sqlalchemy.create_engine(place.url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"UPDATE trial_heartbeats SET heartbeat = {earlier}"))


def test_of_two_that_give_up_a_trial_one_lets_it_be_tried_again(open_study: Open) -> None:
    shared, other = open_study(total=3), open_study(total=3)
    claim = _ask(shared)
    assert shared.fail(claim.number, "interrupted", again=True)
    assert not other.fail(claim.number, "interrupted", again=True)
    waiting = [t for t in shared.trials() if t.state is TrialState.WAITING]
    assert len(waiting) == 1


def test_a_claim_that_comes_to_nothing_is_given_back(
    open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = open_study(total=1)
    with monkeypatch.context() as patched:
        patched.setattr(space.Space, "suggest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shared.ask()
    assert shared.configuration(_ask(shared).number) == shared.purpose.config


@pytest.mark.parametrize("seed", range(8))
def test_exactly_n_trials_end_however_several_ask_fail_and_die(open_study: Open, seed: int) -> None:
    """Random interleavings of three that work on one study."""
    rng = random.Random(seed)
    workers = [open_study(total=7) for _ in range(3)]
    running: list[tuple[SharedStudy, ClaimedTrial]] = []
    for _ in range(1_000):
        shared = rng.choice(workers)
        if shared.is_done:
            break
        if running and rng.random() < 0.5:
            owner, claim = running.pop(rng.randrange(len(running)))
            match rng.randrange(4):
                case 0:
                    owner.fail(claim.number, "it broke", again=rng.random() < 0.5)
                case 1:
                    owner.study.tell(claim.trial, state=TrialState.PRUNED)
                case _:
                    owner.study.tell(claim.trial, rng.random())
        elif (claim_ := shared.ask()) is not None:
            running.append((shared, claim_))
    assert all(shared.is_done for shared in workers)
    assert running == []
    assert len(workers[0].ended()) == 7
    assert all(trial.state.is_finished() for trial in workers[0].trials())


def test_one_too_many_is_given_back(open_study: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that see the same free place ask at the same moment."""
    shared, other = open_study(total=2), open_study(total=2)
    _ask(shared)
    ask = shared.study.ask

    def after_the_other() -> optuna.Trial:
        assert other.ask() is not None
        return ask()

    monkeypatch.setattr(shared.study, "ask", after_the_other)
    assert shared.ask() is None
    states = [trial.state for trial in shared.trials()]
    assert states.count(TrialState.RUNNING) == 2
    assert states.count(TrialState.FAIL) == 1


def test_a_grid_is_walked_point_by_point(place: StudyStorage) -> None:
    purpose = _purpose(
        "search.optimizer.learning_rate={type: categorical, choices: [1e-3, 1e-4]}",
        "search.training.batch_size={type: int, low: 32, high: 64, step: 32}",
    )
    points = grid_points(purpose.space)
    plan = StudyPlan(50, partial(make_sampler, "grid", 0), make_pruner("none", 5, 1), points)
    shared = study.open_study(place, "a-grid", purpose, plan)
    claims = [_ask(shared) for _ in range(4)]
    assert shared.ask() is None
    params = [claim.trial.params for claim in claims]
    assert params[0] == {"optimizer.learning_rate": 1e-3, "training.batch_size": 64}
    assert sorted(map(str, params)) == sorted(map(str, points))

    # A point that cannot be trained is given up, and the grid ends without it.
    shared.fail(claims[1].number, "the loss became nan")
    assert shared.ask() is None
    for claim in (claims[0], claims[2], claims[3]):
        shared.study.tell(claim.trial, 1.0)
    assert shared.is_done


def test_a_study_of_something_else_is_refused_with_the_difference(open_study: Open) -> None:
    open_study()
    open_study(5, "searched-1", "description=Other words.")  # which decide nothing
    for assignment, key in (
        ("agent.gamma=0.5", "agent.gamma: 0.99 in the study, 0.5 here"),
        (
            "search.training.batch_size={type: int, low: 8, high: 16}",
            'search.training.batch_size: {"type": "categorical"',
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            open_study(5, "searched-1", assignment)
        assert key in str(caught.value)
        assert "--study searched-1" in str(caught.value)


def test_a_study_that_is_not_ours_is_refused(place: StudyStorage, open_study: Open) -> None:
    theirs = optuna.create_study(storage=place.open("theirs"), study_name="theirs")
    theirs.tell(theirs.ask(), 1.0)
    with pytest.raises(ConfigError, match="not one of dqnkit"):
        open_study(5, "theirs")
    with pytest.raises(ConfigError, match="not one of dqnkit"):
        study.find_purpose(place, "theirs")


def test_the_purpose_is_read_back(place: StudyStorage, open_study: Open) -> None:
    shared = open_study(5, "searched-1", "search.agent.gamma={type: float, low: 0.9, high: 1.0}")
    assert study.find_purpose(place, "searched-1") == shared.purpose
    assert study.find_purpose(place, "nothing") is None


def test_the_unfinished_study_of_this_purpose_is_found(
    place: StudyStorage, open_study: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    purpose = _purpose()
    for name in ("searched-1", "searched-2", "searched-3"):
        open_study(5, name)
    open_study(5, "searched-4", "agent.gamma=0.5")
    assert study.find_unfinished(place, purpose) is None  # this process works on them
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    assert study.find_unfinished(place, purpose) == "searched-3"
    open_study(5, "searched-3").remember(BEST, "name: searched")
    assert study.find_unfinished(place, purpose) == "searched-2"


def test_the_winner_is_kept_with_the_study(place: StudyStorage, open_study: Open) -> None:
    shared = open_study()
    with pytest.raises(ConfigError, match="no winner yet"):
        study.winner(place, "searched-1")
    with pytest.raises(ConfigError, match="did you mean 'searched-1'"):
        study.winner(place, "searched-2")
    shared.remember(BEST, "name: searched")
    assert study.winner(place, "searched-1") == "name: searched"


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 101, "a b", "a\n"])
def test_a_name_never_leaves_its_folder(place: StudyStorage, name: str) -> None:
    with pytest.raises(ConfigError, match="--study"):
        place.open(name)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("not-a-url", ConfigError),
        ("sqlite:////no/such/folder/x.db", StudyError),
        ("postgresql+psycopg://me:secret@127.0.0.1:9/x", StudyError),
        ("nosuchdatabase://x", ConfigError),
    ],
)
def test_a_storage_that_cannot_be_used_is_told_without_its_password(
    url: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        storage.resolve(url).open("x")
    assert "--storage" in str(caught.value)
    assert "secret" not in str(caught.value)
