from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit.events import RunStatus
from dqnkit.tracking.names import Tag
from dqnkit.tuning.running_trial import RunningTrial, TrialRecords, aggregate_over_seeds
from dqnkit.tuning.study import SharedStudy
from dqnkit.tuning.study_run import StudyRun
from tests.dqnkit.tuning.helpers import (
    RecordingEditor,
    ask,
    make_train_result,
)
from tests.fake_training import make_evaluation

JournalStudy = Callable[..., SharedStudy]
TAGS = {Tag.STUDY: "searched-1", Tag.TRIAL: "0"}


@pytest.fixture
def editor() -> RecordingEditor:
    return RecordingEditor()


def _trial(study: SharedStudy) -> RunningTrial:
    definition = study.definition
    seeds = list(range(definition.seeds_per_trial))
    return RunningTrial(ask(study), definition.config, "searched-1-t000", seeds)


def _records(study: SharedStudy, editor: RecordingEditor) -> TrialRecords:
    study_run = StudyRun(study, None)
    study_run.editor = editor
    return TrialRecords(study.name, study_run)


def test_a_value_over_seeds_is_their_interquartile_mean() -> None:
    assert aggregate_over_seeds([5.0]) == 5.0
    assert aggregate_over_seeds([0.0, 1.0, 2.0, 99.0]) == 1.5


def test_reports_are_numbered_across_seeds(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    study = journal_study(seeds_per_trial=2)
    trial, records = _trial(study), _records(study, editor)
    assert trial.next_report(4.0) == (4.0, 1)
    assert trial.next_report(6.0) == (6.0, 2)
    task = records.make_task(trial, 0, waits_for_pruner=True)
    evaluations = [make_evaluation(10 * i, float(10 * i)) for i in range(11)]
    trial.add(0, make_train_result(task, evaluations))
    assert trial.values == [80.0]  # the last five evaluations, pooled
    trial.reports = 0
    assert trial.next_report(60.0) == (70.0, 11)


def test_value_and_mean_are_over_all_seeds(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    study = journal_study(seeds_per_trial=2)
    trial, records = _trial(study), _records(study, editor)
    for seed, value in enumerate((10.0, 20.0)):
        task = records.make_task(trial, seed, waits_for_pruner=False)
        trial.add(seed, make_train_result(task, [make_evaluation(10, value)]))
    assert (trial.value, trial.mean) == (15.0, 15.0)


def test_the_run_of_a_trial_with_one_seed_is_the_trials_own(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    study = journal_study()
    trial, records = _trial(study), _records(study, editor)
    task = records.make_task(trial, 3, waits_for_pruner=True)
    assert (task.run_name, task.config.training.seed) == ("searched-1-t000", 3)
    assert task.waits_for_pruner
    assert task.parent.tags == TAGS
    assert task.tracking_uri is None


def test_the_runs_of_several_seeds_are_below_a_group(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    study = journal_study(seeds_per_trial=2)
    trial, records = _trial(study), _records(study, editor)
    records.open_group(trial)
    assert trial.group is not None
    task = records.make_task(trial, 1, waits_for_pruner=False)
    assert task.run_name == "searched-1-t000-s1"
    assert task.parent.tags == TAGS
    trial.add(1, make_train_result(task, [make_evaluation(10, 5.0)]))
    assert [each.seed for each in trial.group.results] == [1]
    assert records.close(trial, "complete", RunStatus.FINISHED) == []
    assert editor.marked == []  # the group marks its own run


def test_a_closed_record_has_state_cause_and_status(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    study = journal_study()
    trial, records = _trial(study), _records(study, editor)
    trial.run_id = "abc"
    records.close(trial, "failed", RunStatus.FAILED, "x" * 600)
    tags = {Tag.TRIAL_STATE: "failed", Tag.TRIAL_CAUSE: "x" * 500}
    assert editor.marked == [("abc", tags, RunStatus.FAILED)]


def test_a_run_whose_id_is_unknown_is_found_by_its_tags(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    study = journal_study()
    trial, records = _trial(study), _records(study, editor)
    editor.found = "found"
    records.close(trial, "interrupted", RunStatus.KILLED)
    assert editor.marked[0][0] == "found"


def test_orphans_are_the_runs_of_a_trial(
    journal_study: JournalStudy, editor: RecordingEditor
) -> None:
    _records(journal_study(), editor).end_orphans(0)
    assert editor.orphans == [TAGS]
