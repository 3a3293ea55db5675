from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from dqnkit.errors import ConfigError, TrackingError
from dqnkit.processes import identity
from dqnkit.tracking.client import (
    connect,
    describe_store_error,
    end_stale_runs,
    experiment_names,
    is_transient,
    make_experiment,
    quoted,
    wrap_store_errors,
)
from dqnkit.tracking.location import locate_store
from tests.processes import client, runs
from tests.runs import make_store, record


def test_a_client_creates_the_database_of_its_store() -> None:
    location = locate_store().make()
    assert connect(location).search_experiments()[0].name == "Default"
    assert not location.is_empty


def test_settings_of_the_user_are_kept() -> None:
    """Another process reads them, because `connect` changes the environment for good."""
    code = """
import os
from dqnkit.tracking.client import connect
from dqnkit.tracking.location import locate_store
connect(locate_store().make())
print(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_DISABLE_TELEMETRY"])
"""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")},
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "77",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["77", "true"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("text", "expected"), [("a b", "'a b'"), ("it's", '"it\'s"'), ('say "a"', "'say \"a\"'")]
)
def test_text_is_quoted_for_searches(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_text_with_both_quotation_marks_cannot_be_searched_for() -> None:
    with pytest.raises(ConfigError, match="both kinds of quotation marks"):
        quoted("'\"")


def _mlflow_error(code: str) -> Exception:
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    return MlflowException("problem", getattr(databricks_pb2, code))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionError("refused"), True),
        (TimeoutError("no answer"), True),
        (requests.exceptions.ReadTimeout(), True),
        (RuntimeError("(sqlite3.OperationalError) database is locked"), True),
        ("INTERNAL_ERROR", True),
        ("TEMPORARILY_UNAVAILABLE", True),
        ("REQUEST_LIMIT_EXCEEDED", True),
        ("UNAUTHENTICATED", False),
        ("RESOURCE_DOES_NOT_EXIST", False),
        (ValueError("wrong"), False),
        (None, False),
    ],
)
def test_failures_that_may_pass_are_recognised(error: Any, transient: bool) -> None:
    raised = _mlflow_error(error) if isinstance(error, str) else error
    assert is_transient(raised) == transient
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = raised
    assert is_transient(wrapped) == transient


def test_errors_of_a_store_name_it_and_what_to_do() -> None:
    with (
        pytest.raises(TrackingError) as caught,
        wrap_store_errors(locate_store("http://me:secret@host"), ", or do without"),
    ):
        raise ConnectionError("no\n  answer")
    assert str(caught.value) == (
        "the tracking store http://host cannot be used: no answer. Is it running? Choose another "
        "store with `tracking_uri`, or do without"
    )
    assert isinstance(caught.value.__cause__, ConnectionError)
    with pytest.raises(TrackingError) as caught, wrap_store_errors(locate_store()):
        raise OSError("broken")
    assert "Is it running" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("API request to endpoint /x failed with error code 401 != 200.", "TRACKING_USERNAME"),
        (
            "API request failed with error code 403 != 200. Response body: 'Invalid Host header'",
            "`mlflow server --allowed-hosts box:5000`",
        ),
        ("403 Client Error: FORBIDDEN for url: http://box", "may not do this"),
        ("404 Client Error: NOT FOUND for url: http://box", "not as an MLflow server"),
        ("413 Client Error: Request Entity Too Large for url", "client_max_body_size"),
        ("API request failed with error code 500 != 200", "its log says why"),
    ],
)
def test_an_answer_of_a_server_is_not_a_silence(text: str, advice: str) -> None:
    problem = describe_store_error(_error(text), locate_store("http://me:secret@box:5000"))
    assert advice in problem
    assert problem.startswith(text.rstrip("."))
    assert "Is it running" not in problem
    assert "secret" not in problem


def _error(text: str) -> Exception:
    return requests.exceptions.HTTPError(text)


def test_explained_errors_pass_as_they_are() -> None:
    with pytest.raises(ConfigError, match=r"^mine$"), wrap_store_errors(locate_store()):
        raise ConfigError("mine")


def test_an_experiment_is_made_once() -> None:
    make_store()
    location = locate_store()
    store = connect(location)
    made = make_experiment(store, location, "pole / ü")
    assert make_experiment(store, location, "pole / ü") == made
    assert experiment_names(store) == {"0": "Default", made: "pole / ü"}
    store.delete_experiment(made)
    assert experiment_names(store) == {"0": "Default"}
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        make_experiment(store, location, "pole / ü")


def test_an_experiment_that_another_process_makes_meanwhile_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_store()
    location = locate_store()
    store = connect(location)
    real = store.get_experiment_by_name
    first = [None]

    def too_early(name: str) -> Any:
        if first:
            made.append(client().create_experiment(name))
            return first.pop()
        return real(name)

    made: list[str] = []
    monkeypatch.setattr(store, "get_experiment_by_name", too_early)
    assert make_experiment(store, location, "pole") == made[0]


def test_names_of_more_experiments_than_a_page_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    make_store()
    store = connect(locate_store())
    for number in range(4):
        store.create_experiment(f"e{number}")
    search = store.search_experiments
    monkeypatch.setattr(
        store, "search_experiments", lambda page_token: search(1, 2, page_token=page_token)
    )
    assert set(experiment_names(store).values()) == {"Default", "e0", "e1", "e2", "e3"}


def test_runs_of_dead_processes_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = record(name="dead", status=None, curve={0: [1.0]})
    alive = record(name="alive", status=None)
    ended = record(name="ended")
    store = connect(locate_store())
    store.set_tag(dead, "dqnkit.process", "gone")
    monkeypatch.setattr(identity, "is_dead", lambda process: process == "gone")
    ids = [run.info.experiment_id for run in runs()]
    end_stale_runs(store, ids)
    by_id = {run.info.run_id: run for run in runs()}
    assert {run_id: by_id[run_id].info.status for run_id in (dead, alive, ended)} == {
        dead: "KILLED",
        alive: "RUNNING",
        ended: "FINISHED",
    }
    (point,) = store.get_metric_history(dead, "eval/return_mean")
    assert by_id[dead].info.end_time == point.timestamp
    note = by_id[dead].data.tags["mlflow.note.content"]
    assert note == "**About it.**\n\nIts process was killed."


@pytest.mark.parametrize("metric", ["train/steps_per_second", None])
def test_the_time_after_the_last_sign_of_life_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, metric: str | None
) -> None:
    """A process may die long before somebody looks."""
    dead = record(name="dead", status=None)
    store = connect(locate_store())
    began = store.get_run(dead).info.start_time
    if metric is not None:
        store.log_metric(dead, metric, 1.0, timestamp=began + 1_234)
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    end_stale_runs(store, [runs()[0].info.experiment_id])
    assert runs()[0].info.end_time == began + (1_234 if metric else 0)


def test_a_killed_parent_which_logs_at_its_end_has_no_duration_of_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead = record(name="study", status=None, tags={"dqnkit.kind": "study"})
    store = connect(locate_store())
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    time.sleep(0.02)
    end_stale_runs(store, [store.get_run(dead).info.experiment_id])
    run = store.get_run(dead)
    assert run.info.status == "KILLED"
    assert run.info.end_time > run.info.start_time


def test_a_run_that_its_parent_ends_meanwhile_keeps_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead = record(name="dead", status=None, curve={0: [1.0]})
    store = connect(locate_store())
    history = store.get_metric_history

    def end_and_read(run_id: str, key: str) -> Any:
        client().set_terminated(run_id, "FAILED")
        return history(run_id, key)

    monkeypatch.setattr(store, "get_metric_history", end_and_read)
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    end_stale_runs(store, [runs()[0].info.experiment_id])
    (run,) = runs()
    assert (run.info.run_id, run.info.status) == (dead, "FAILED")
    assert "killed" not in run.data.tags["mlflow.note.content"]


def test_a_store_without_a_lock_is_read_all_the_same() -> None:
    make_store()
    lock = Path("mlruns/.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()  # a lock that cannot be opened, as on a read-only file system
    assert connect(locate_store()).search_experiments()
