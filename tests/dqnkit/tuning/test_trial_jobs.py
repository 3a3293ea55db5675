"""Trials as jobs, with simulated workers and without a record."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from optuna.trial import Trial, TrialState

from dqnkit.errors import StudyError, TrackingError
from dqnkit.events import (
    RunEnded,
    RunFailed,
    RunStarted,
    RunStatus,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkerDied,
)
from dqnkit.tracking.names import Tag
from dqnkit.tuning import trial_jobs
from dqnkit.tuning.attributes import INTERRUPTED, TrialAttr
from dqnkit.tuning.space import Space
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun
from dqnkit.tuning.trial_jobs import Pruning, TrialJobs
from dqnkit.workers.orders import PrunerDecision, StopRun, Task
from dqnkit.workers.seed_group import SeedGroup
from tests.dqnkit.tuning.helpers import (
    REMOTE_PROCESS,
    EventLog,
    FakeWorker,
    RecordingEditor,
    as_process,
    ask,
    dead_process,
    evaluated,
    make_train_result,
)
from tests.fake_training import make_evaluation

JournalStudy = Callable[..., SharedStudy]


class Search:
    """Jobs of a study, with a worker, an editor and a listener that keep what they receive."""

    def __init__(
        self,
        study: SharedStudy,
        pruning: Pruning = Pruning.BY_EVALUATION,
        deadline: float = float("inf"),
    ) -> None:
        self.study = study
        self.study_run = StudyRun(study, None)
        self.editor = RecordingEditor()
        self.study_run.editor = self.editor
        self.log = EventLog()
        self.worker = FakeWorker()
        self.jobs = TrialJobs(study, self.study_run, self.log, pruning, deadline)

    def next_task(self) -> Task:
        task = self.jobs.next_task()
        assert task is not None
        return task

    def handle(self, task: Task | None, event: object) -> None:
        self.jobs.handle(self.worker.message(task, event))  # type: ignore[arg-type]

    def end(self, task: Task, value: float, status: RunStatus = RunStatus.FINISHED) -> None:
        result = make_train_result(task, [make_evaluation(100, value)], status, "run")
        self.handle(task, RunEnded(result))

    @property
    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials()]


@pytest.fixture
def search(journal_study: JournalStudy) -> Search:
    return Search(journal_study(2))


def _prune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "should_prune", lambda _: True)


# -- Trials that count


def test_a_trial_is_started_reported_and_completed(search: Search) -> None:
    task = search.next_task()
    assert task.run_name == "searched-1-t000"
    assert task.waits_for_pruner
    (started,) = search.log.of_type(TrialStarted)
    assert (started.run_name, started.number) == (task.run_name, 0)

    search.handle(task, RunStarted("run", 0.1, 0))
    search.handle(task, evaluated(0.0))
    search.handle(task, evaluated(0.0, 10.0))
    assert search.worker.orders == [
        PrunerDecision(proceed=True)
    ]  # the first evaluation awaits none
    search.end(task, 50.0)

    trial = search.study.trials()[0]
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 50.0)
    assert trial.intermediate_values == {1: 10.0}
    assert trial.user_attrs[TrialAttr.MEAN] == 50.0
    assert trial.user_attrs[TrialAttr.RUN_ID] == "run"
    assert search.editor.marked == [
        ("run", {Tag.TRIAL_STATE: "complete"}, RunStatus.FINISHED),
    ]
    (ended,) = search.log.of_type(TrialEnded)
    assert (ended.number, ended.state, ended.value) == (0, "complete", 50.0)
    assert ended.standing.complete == 1


def test_a_pruned_trial_ends_its_run(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    task = search.next_task()
    search.handle(task, RunStarted("run", 0.1, 0))
    _prune(monkeypatch)
    search.handle(task, evaluated(0.0))
    search.handle(task, evaluated(0.0, 10.0))
    assert search.worker.orders == [PrunerDecision(proceed=False)]
    search.end(task, 10.0)
    assert search.states == [TrialState.PRUNED]
    assert search.log.of_type(TrialEnded)[0].value == 10.0  # the last reported value
    assert search.editor.marked[0][1] == {Tag.TRIAL_STATE: "pruned"}


def test_the_last_evaluation_of_the_only_seed_does_not_prune(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = search.next_task()
    _prune(monkeypatch)
    search.handle(task, evaluated(*[0.0] * 11))  # at the last iteration
    assert search.worker.orders == []
    search.end(task, 10.0)
    assert search.states == [TrialState.COMPLETE]


def test_without_a_pruner_runs_await_no_verdict(
    journal_study: JournalStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(journal_study(2), Pruning.NEVER)
    _prune(monkeypatch)
    task = search.next_task()
    assert not task.waits_for_pruner
    search.handle(task, evaluated(0.0, 10.0))
    assert search.worker.orders == []
    assert search.study.trials()[0].intermediate_values == {1: 10.0}


def test_the_jobs_are_done_when_as_many_trials_have_ended_as_wanted(search: Search) -> None:
    for number in range(2):
        assert not search.jobs.is_done
        task = search.next_task()
        assert not search.jobs.is_done
        search.end(task, float(number))
    assert search.jobs.is_done
    assert search.jobs.next_task() is None


def test_after_the_deadline_no_trial_is_started(
    journal_study: JournalStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = time.monotonic() + 1_000
    search = Search(journal_study(5), deadline=deadline)
    task = search.next_task()
    monkeypatch.setattr(time, "monotonic", lambda: deadline)
    assert search.jobs.next_task() is None
    assert not search.jobs.is_done
    search.end(task, 1.0)
    assert search.jobs.is_done


# -- Several seeds


def test_a_trial_with_several_seeds_trains_one_after_another(journal_study: JournalStudy) -> None:
    search = Search(journal_study(1, seeds_per_trial=3), Pruning.NEVER)
    for seed, value in enumerate((10.0, 20.0, 60.0)):
        task = search.next_task()
        assert task.run_name == f"searched-1-t000-s{seed}"
        assert task.config.training.seed == seed
        search.handle(task, evaluated(0.0, value))
        search.end(task, value)
    trial = search.study.trials()[0]
    assert trial.state is TrialState.COMPLETE
    assert trial.value == pytest.approx((10 * 0.25 + 20 + 60 * 0.25) / 1.5)
    assert sorted(trial.intermediate_values) == [1, 11, 21]


def test_wilcoxon_prunes_between_seeds(
    journal_study: JournalStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(journal_study(1, seeds_per_trial=3), Pruning.BY_SEED)
    task = search.next_task()
    search.handle(task, evaluated(0.0, 10.0))
    assert search.study.trials()[0].intermediate_values == {}
    search.end(task, 10.0)
    assert search.study.trials()[0].intermediate_values == {0: 10.0}
    _prune(monkeypatch)
    search.end(search.next_task(), 20.0)
    assert search.states == [TrialState.PRUNED]
    assert search.jobs.is_done


def test_the_last_evaluation_of_a_seed_may_prune_the_others(
    journal_study: JournalStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(journal_study(1, seeds_per_trial=2))
    task = search.next_task()
    _prune(monkeypatch)
    search.handle(task, evaluated(*[0.0] * 11))
    search.end(task, 10.0)
    assert search.states == [TrialState.PRUNED]


def test_a_group_that_cannot_be_opened_is_an_external_failure(
    journal_study: JournalStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise TrackingError("the store is away")

    search = Search(journal_study(3, seeds_per_trial=2))
    with monkeypatch.context() as patched:
        patched.setattr(SeedGroup, "start", refuse)
        assert search.jobs.next_task() is None
    assert search.jobs.problems == ["trial 0 failed, it is repeated: the store is away"]
    assert search.next_task().run_name == "searched-1-t001-s0"


# -- Failures and interruptions


def test_a_dead_worker_costs_an_attempt(search: Search) -> None:
    task = search.next_task()
    search.handle(task, RunStarted("run", 0.1, 0))
    search.handle(task, WorkerDied("run", "signal 9"))
    assert search.states == [TrialState.FAIL, TrialState.WAITING]
    assert search.jobs.problems == ["trial 0 failed, it is repeated: signal 9"]
    assert search.log.warnings == search.jobs.problems
    tags = {Tag.TRIAL_STATE: "failed", Tag.TRIAL_CAUSE: "signal 9"}
    assert search.editor.marked == [("run", tags, RunStatus.FAILED)]
    repeated = search.next_task()
    assert repeated.run_name == "searched-1-t001"
    assert repeated.config == task.config


def test_a_configuration_that_cannot_be_trained_is_replaced(search: Search) -> None:
    task = search.next_task()
    search.handle(task, RunFailed("run", "the loss became nan", retryable=False))
    assert search.jobs.problems == ["trial 0 failed, another takes its place: the loss became nan"]
    assert search.next_task().config != task.config


def test_values_that_do_not_fit_together_fail_without_a_run(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"training.batch_size": 64, "replay.replay_buffer_max_length": 10}
    with monkeypatch.context() as patched:
        patched.setattr(Space, "suggest", lambda *_: values)
        assert search.jobs.next_task() is None
    (problem,) = search.jobs.problems
    assert "trial 0 failed, another takes its place: " in problem
    assert "fit into the replay" in problem
    assert search.states == [TrialState.FAIL]


def test_failures_in_a_row_end_the_search_after_the_last_run(
    journal_study: JournalStudy,
) -> None:
    search = Search(journal_study(20))
    other = search.next_task()
    for _ in range(5):
        task = search.next_task()
        search.handle(task, RunFailed(None, "the disk is gone", retryable=True))
    assert search.jobs.next_task() is None  # waits for the other run
    with pytest.raises(StudyError, match=r"6 trials in a row failed.*the disk is gone"):
        search.handle(other, RunFailed(None, "the disk is gone", retryable=True))


def test_a_trial_that_counts_ends_a_row_of_failures(journal_study: JournalStudy) -> None:
    search = Search(journal_study(20))
    for _ in range(3):
        for _ in range(4):
            search.handle(search.next_task(), RunFailed(None, "lost", retryable=True))
        search.end(search.next_task(), 1.0)


def test_an_interrupted_run_is_repeated_and_is_no_failure(search: Search) -> None:
    task = search.next_task()
    search.end(task, 1.0, RunStatus.KILLED)
    assert search.states == [TrialState.FAIL, TrialState.WAITING]
    assert search.study.trials()[0].user_attrs[TrialAttr.CAUSE] == INTERRUPTED
    assert search.jobs.problems == []
    assert search.editor.marked[0][1] == {Tag.TRIAL_STATE: INTERRUPTED}


def test_abandoned_trials_are_repeated(journal_study: JournalStudy) -> None:
    search = Search(journal_study(3, seeds_per_trial=2), Pruning.NEVER)
    search.end(search.next_task(), 1.0)  # between its seeds
    search.jobs._between_seeds, between = [], search.jobs._between_seeds
    search.next_task()  # in training
    search.jobs._between_seeds = between
    search.jobs.abandon()
    assert search.states == [TrialState.FAIL] * 2 + [TrialState.WAITING] * 2
    assert not search.jobs._running
    assert not search.jobs._between_seeds


def test_messages_of_other_runs_are_ignored(search: Search) -> None:
    task = search.next_task()
    search.handle(None, RunStarted("run", 0.1, 0))
    search.end(task, 1.0)
    search.handle(task, WorkerDied(None, "signal 9"))
    assert search.states == [TrialState.COMPLETE]


# -- Other processes


def _take_over(search: Search, number: int) -> None:
    """Let another process fail a trial, as if this one were dead."""
    search.study.study.tell(number, state=TrialState.FAIL)


def test_a_trial_that_was_taken_over_is_dropped(search: Search) -> None:
    task = search.next_task()
    search.handle(task, RunStarted("run", 0.1, 0))
    _take_over(search, 0)
    search.handle(task, evaluated(0.0, 10.0))
    assert search.worker.orders == [StopRun()]
    search.end(task, 10.0, RunStatus.KILLED)
    assert search.log.warnings == [
        "trial 0 was taken over by another process, which considered this one dead"
    ]
    assert search.editor.marked == [
        ("run", {Tag.TRIAL_STATE: INTERRUPTED}, RunStatus.KILLED),
    ]
    assert search.jobs.problems == []


@pytest.mark.parametrize("moment", ["start", "end", "failure", "claim"])
def test_a_trial_may_be_taken_over_at_any_time(
    search: Search, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if moment == "claim":
        claim = search.study._heartbeats.claim

        def claim_and_lose(trial: Trial) -> None:
            claim(trial)
            _take_over(search, trial.number)

        with monkeypatch.context() as patched:
            patched.setattr(search.study._heartbeats, "claim", claim_and_lose)
            assert search.jobs.next_task() is None
    else:
        task = search.next_task()
        _take_over(search, 0)
        match moment:
            case "start":
                search.handle(task, RunStarted("run", 0.1, 0))
                assert search.worker.orders == [StopRun()]
                search.end(task, 10.0, RunStatus.KILLED)
            case "end":
                search.end(task, 10.0)
            case "failure":
                search.handle(task, WorkerDied(None, "signal 9"))
    assert len(search.log.warnings) == 1
    assert "trial 0 was taken over by another process" in search.log.warnings[0]
    assert search.next_task().run_name == "searched-1-t001"


def test_trials_of_dead_processes_are_repeated(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_over: list[bool] = []
    monkeypatch.setattr(search.study_run, "take_over", lambda: taken_over.append(True))
    with as_process(dead_process()):
        lost = ask(search.study)
    search.jobs.reap()
    assert search.log.warnings == ["trial 0 is repeated: its process has died"]
    assert taken_over == [True]
    assert search.editor.orphans == [{Tag.STUDY: "searched-1", Tag.TRIAL: "0"}]
    task = search.next_task()
    assert search.study.values(1) == lost.values
    assert task.run_name == "searched-1-t001"
    search.jobs.reap()
    assert taken_over == [True]


def test_the_search_looks_for_dead_processes_before_each_trial(
    journal_study: JournalStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is busy must not leave the trials of a dead host alone for long."""
    search = Search(journal_study(3))
    with as_process(dead_process()):
        lost = ask(search.study)
    now = time.monotonic()
    search.end(search.next_task(), 1.0)
    assert search.log.warnings == []
    monkeypatch.setattr(time, "monotonic", lambda: now + trial_jobs._REAP_SECONDS + 1)
    search.next_task()
    assert search.log.warnings == ["trial 0 is repeated: its process has died"]
    assert search.study.values(2) == lost.values


def test_orphaned_runs_of_interrupted_trials_are_ended(search: Search) -> None:
    search.study.fail(ask(search.study).number, INTERRUPTED)
    search.study.fail(ask(search.study).number, "it broke")
    search.jobs.end_orphans()
    assert [tags[Tag.TRIAL] for tags in search.editor.orphans] == ["0"]


def test_a_search_that_waits_for_other_processes_says_so_once(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_process(REMOTE_PROCESS):
        for _ in range(2):
            ask(search.study)
    assert search.jobs.next_task() is None
    assert search.log.warnings == []  # for the first seconds
    now = time.monotonic()
    for step in (1, 2):
        later = now + step * (trial_jobs._REAP_SECONDS + 1)
        monkeypatch.setattr(time, "monotonic", lambda later=later: later)
        assert search.jobs.next_task() is None
    assert search.log.warnings == [
        "waiting for trials of other processes: trial 0 on elsewhere, trial 1 on elsewhere"
    ]


# -- Repeated trials


def _choices(journal_study: JournalStudy, total: int, *, retrain_repeats: bool = False) -> Search:
    """Return a search over two values of one key."""
    space = "search={agent.gamma: {type: categorical, choices: [0.9, 0.99]}}"
    return Search(journal_study(total, space, retrain_repeats=retrain_repeats))


def test_a_repeated_trial_takes_the_result_of_the_first(journal_study: JournalStudy) -> None:
    search = _choices(journal_study, 8)
    trained = []
    while (task := search.jobs.next_task()) is not None:
        trained.append(task.config.agent.gamma)
        search.handle(task, RunStarted(f"run-{len(trained)}", 0.1, 0))
        search.end(task, 100 * task.config.agent.gamma)
    assert sorted(trained) == [0.9, 0.99]
    assert search.states == [TrialState.COMPLETE] * 8
    for trial in search.study.trials():
        gamma = search.study.values(trial.number)["agent.gamma"]
        assert trial.value == pytest.approx(100 * gamma)
        if TrialAttr.REPEATS in trial.user_attrs:
            first = search.study.trials()[trial.user_attrs[TrialAttr.REPEATS]]
            assert first.user_attrs[TrialAttr.RUN_ID] == trial.user_attrs[TrialAttr.RUN_ID]
    assert len(search.log.of_type(TrialEnded)) == 8
    (warning,) = search.log.of_type(Warned)
    assert "takes its result, and so will others" in warning.text


def test_repeats_are_trained_if_that_is_asked_for(journal_study: JournalStudy) -> None:
    search = _choices(journal_study, 5, retrain_repeats=True)
    count = 0
    while (task := search.jobs.next_task()) is not None:
        count += 1
        search.end(task, 1.0)
    assert count == 5
