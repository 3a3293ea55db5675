from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dqnkit.config.sections import Config
from dqnkit.errors import TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking import editor as editors
from dqnkit.tracking.editor import (
    MlflowRunEditor,
    RegisteredPolicy,
    Registration,
    RunEditor,
    make_run_editor,
)
from dqnkit.tracking.location import locate_store
from tests.processes import client, runs
from tests.runs import LEAN, make_store, record

Small = Callable[..., Config]
EXPERIMENT = "cartpole"
"""Experiment of the runs of `record`."""


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> MlflowRunEditor:
    monkeypatch.setattr(editors, "_RETRY_SECONDS", 0.01)
    make_store()
    return MlflowRunEditor(locate_store(), EXPERIMENT)


def _run(run_id: str) -> Any:
    return client().get_run(run_id)


def test_runs_are_found_by_all_their_tags(editor: MlflowRunEditor) -> None:
    assert editor.find({"a": "1"}) is None  # the experiment does not exist yet
    first = record(tags={"a": "1", "b": "it's"})
    record(tags={"a": "1", "b": "2"})
    assert editor.find({"a": "1", "b": "it's"}) == first
    assert editor.find({"a": "3"}) is None
    assert editor.problems == []


def test_runs_of_other_experiments_are_not_found(editor: MlflowRunEditor) -> None:
    record(tags={"a": "1"})
    assert MlflowRunEditor(locate_store(), "another").find({"a": "1"}) is None


@pytest.mark.parametrize("status", list(RunStatus))
def test_a_running_run_is_marked_and_ended(editor: MlflowRunEditor, status: RunStatus) -> None:
    run_id = record(status=None)
    editor.mark(run_id, {"trial.state": "complete"})
    assert _run(run_id).info.status == "RUNNING"
    editor.mark(run_id, {"trial.cause": "why"}, status)
    run = _run(run_id)
    assert run.info.status == str(status)
    assert (run.data.tags["trial.state"], run.data.tags["trial.cause"]) == ("complete", "why")


def test_an_ended_run_keeps_its_status(editor: MlflowRunEditor) -> None:
    run_id = record(status=RunStatus.FINISHED)
    editor.mark(run_id, {"trial.state": "failed"}, RunStatus.FAILED)
    run = _run(run_id)
    assert (run.info.status, run.data.tags["trial.state"]) == ("FINISHED", "failed")


def test_a_failed_run_that_another_process_has_ended_as_killed_becomes_failed(
    editor: MlflowRunEditor,
) -> None:
    run_id = record(status=RunStatus.KILLED)
    editor.mark(run_id, {}, RunStatus.FAILED)
    assert _run(run_id).info.status == "FAILED"
    editor.mark(run_id, {}, RunStatus.KILLED)
    assert _run(run_id).info.status == "FAILED"


def test_a_run_that_is_not_recorded_cannot_be_marked(editor: MlflowRunEditor) -> None:
    editor.mark(None, {"a": "1"}, RunStatus.FAILED)
    assert editor.problems == []


def test_running_runs_without_a_process_are_ended(editor: MlflowRunEditor) -> None:
    orphan = record(tags={"dqnkit.study": "mine"}, status=None)
    others = [
        record(tags={"dqnkit.study": "mine"}),
        record(tags={"dqnkit.study": "yours"}, status=None),
    ]
    before = [_run(each).to_dictionary() for each in others]
    editor.end_orphans({"dqnkit.study": "mine"}, {"trial.state": "interrupted"})
    run = _run(orphan)
    assert (run.info.status, run.data.tags["trial.state"]) == ("KILLED", "interrupted")
    assert [_run(each).to_dictionary() for each in others] == before


def test_runs_of_dead_processes_are_ended(
    editor: MlflowRunEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = record(status=None)
    editor.end_stale()
    assert _run(run_id).info.status == "RUNNING"
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    editor.end_stale()
    assert _run(run_id).info.status == "KILLED"


# -- Registered models


def test_a_policy_is_registered_once(editor: MlflowRunEditor) -> None:
    first = record(weights=LEAN, with_policy=True)
    second = record(weights=LEAN, with_policy=True)
    editor.check("a-model", "champion")
    made = editor.register(first, "a-model", "champion", {"study": "s"})
    assert made == Registration("1", has_alias=True, other=None)
    one = RegisteredPolicy("1", "CartPole-v1", {"study": "s"})
    made = editor.register(second, "a-model", "champion", {"env": "Another-v0"})
    assert made == Registration("2", has_alias=True, other=one)
    two = RegisteredPolicy("2", "Another-v0", {"env": "Another-v0"})
    for _ in range(2):  # a repeated call registers nothing anew
        made = editor.register(first, "a-model", "champion", {}, lambda other: other != two)
        assert made == Registration("1", has_alias=False, other=two)
    made = editor.register(first, "a-model", "champion", {}, lambda other: other == two)
    assert made == Registration("1", has_alias=True, other=two)
    made = editor.register(first, "a-model", "champion", {}, lambda _: False)
    assert made == Registration("1", has_alias=True, other=None)  # it is the champion itself
    assert editor.problems == []
    model = client().get_model_version_by_alias("a-model", "champion")
    assert (str(model.version), model.run_id, model.tags) == ("1", first, {"study": "s"})
    assert model.source.endswith("/policy")


def test_a_store_without_aliases_is_refused(
    editor: MlflowRunEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def old(*_: object) -> None:
        raise MlflowException("API request failed with error code 404 != 200")

    editor.check("a-model", "champion")
    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", old)
    with pytest.raises(TrackingError, match=r"upgrade its MLflow to 2\.3 or later"):
        editor.check("a-model", "champion")


def test_a_store_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    editor = MlflowRunEditor(locate_store("http://127.0.0.1:9"), EXPERIMENT)
    with pytest.raises(TrackingError, match=r"Is it running\?"):
        editor.check("a-model", "champion")


# -- Failures


def test_a_change_is_tried_again(editor: MlflowRunEditor, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    run_id = record()
    real, failures = MlflowClient.log_batch, iter(range(2))

    def flaky(*arguments: Any, **named: Any) -> None:
        if next(failures, None) is not None:
            raise ConnectionError("away")
        real(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    editor.mark(run_id, {"a": "1"})
    assert editor.problems == []
    assert _run(run_id).data.tags["a"] == "1"


def test_failures_are_recorded_and_not_raised(
    editor: MlflowRunEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = record(status=None)

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("a\nway")

    for method in ("log_batch", "search_runs", "create_registered_model"):
        monkeypatch.setattr(f"mlflow.MlflowClient.{method}", gone)
    assert editor.find({"a": "1"}) is None
    editor.end_orphans({"a": "1"}, {})
    editor.mark(run_id, {"a": "1"})
    assert editor.register(run_id, "a-model", "champion", {}) is None
    editor.end_stale()  # left to the next command that reads the store
    assert editor.problems == [
        "finding a run by its tags failed: a way",
        "ending interrupted runs failed: a way",
        f"updating the run {run_id} failed: a way",
        "registering a-model@champion failed: a way",
    ]


# -- Without a store


@pytest.mark.parametrize(
    ("assignments", "uri"), [((), None), (("tracking.enabled=false",), "auto")]
)
def test_without_a_store_nothing_is_changed(
    small: Small, assignments: tuple[str, ...], uri: str | None
) -> None:
    editor = make_run_editor(small(*assignments), uri)
    assert type(editor) is RunEditor
    editor.check("a-model", "champion")
    assert editor.find({"a": "1"}) is None
    editor.end_orphans({"a": "1"}, {"b": "2"})
    editor.end_stale()
    editor.mark("an-id", {"a": "1"}, RunStatus.KILLED)
    assert editor.register("an-id", "a-model", "champion", {}) is None
    assert editor.problems == []


def test_an_editor_is_made_for_the_experiment_of_a_configuration(small: Small) -> None:
    run_id = record(tags={"a": "1"})
    editor = make_run_editor(small(f"name={EXPERIMENT}"))
    assert editor.find({"a": "1"}) == run_id
    assert make_run_editor(small("name=another")).find({"a": "1"}) is None
    assert [run.info.run_id for run in runs()] == [run_id]
