"""MLflow's client, its errors, and the operations that several modules share."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from dqnkit._system.files import file_lock
from dqnkit._system.text import one_line
from dqnkit.errors import ConfigError, DqnkitError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.names import TRAIN, Metric, RunKind, Tag
from dqnkit.tracking.relocation import follow_folder

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # dqnkit lists the requirements of a policy; MLflow need not inspect the caller's project.
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOG_UV_FILES": "false",
}

_KILLED_NOTE = "\n\nIts process was killed."
_TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
"""MLflow's error codes for the HTTP statuses 500, 503 and 429, and for a server that is silent."""


def connect(store: StoreLocation) -> Any:
    """Return an `MlflowClient`; a database that does not exist yet is created."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # takes seconds to import

    # They raise what they log about a store that does not answer or is full.
    for library in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with _one_at_a_time(store):
        client = MlflowClient(store.uri)
        client.search_experiments(max_results=1)  # creates or migrates the database
        follow_folder(store)
    return client


@contextlib.contextmanager
def wrap_store_errors(store: StoreLocation, advice: str = "") -> Iterator[None]:
    """Turn exceptions of MLflow, requests and SQLAlchemy into `TrackingError`."""
    try:
        yield
    except DqnkitError:
        raise
    except Exception as error:
        problem = describe_store_error(error, store)
        end = "" if problem.endswith("?") else "."
        raise TrackingError(
            f"the tracking store {store.name} cannot be used: {problem}{end} Choose another store "
            f"with `tracking_uri`{advice}"
        ) from error


def describe_store_error(error: BaseException, store: StoreLocation) -> str:
    """Return an exception of MLflow on one line, with what its HTTP status asks for."""
    text = one_line(error)
    found = re.search(r"error code (\d{3})\b|\b(\d{3}) (?:Client|Server) Error", text)
    if found is None:
        is_silent = store.database is None and is_transient(error)
        return f"{text}. Is it running?" if is_silent else text
    status = int(found[1] or found[2])
    return f"{text}. {_advice_for_status(status, text, store)}".removesuffix(". ")


def _advice_for_status(status: int, text: str, store: StoreLocation) -> str:
    if status == 401:
        return (
            "The server asks for a login: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if status == 403 and "host" in text.lower():
        return (
            "The server does not accept the name by which it was called: start it with "
            f"`mlflow server --allowed-hosts {urlsplit(store.uri).netloc.rpartition('@')[2]}`"
        )
    if status == 403:
        return "The login is known, but may not do this"
    if status == 404:
        return "Something answers there, but not as an MLflow server: check the address"
    if status == 413:
        return (
            "The server, or a proxy before it, does not take requests of this size: raise its "
            "limit (nginx: client_max_body_size)"
        )
    return "The server answers, but fails: its log says why" if status >= 500 else ""


def make_experiment(client: Any, store: StoreLocation, name: str) -> str:
    """Return the id of an experiment, which is created if it is missing.

    Raises:
      TrackingError: If the experiment was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    location = store.artifacts and (store.artifacts / name).as_uri()
    # With this tag MLflow's UI opens on the pages for training rather than language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, location, tags))
        except MlflowException:  # perhaps another process has just created it
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        restore = f"experiments restore --experiment-id {experiment.experiment_id}"
        raise TrackingError(
            f"the experiment {name!r} was deleted in MLflow: restore it by "
            f"`{store.mlflow_command_line(restore)}`, or give the experiment another name (the key "
            "name of the configuration)"
        )
    return str(experiment.experiment_id)


def experiment_names(client: Any) -> dict[str, str]:
    """Return the names of all experiments that are not deleted, by id."""
    names: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_experiments(page_token=token)
        names |= {each.experiment_id: each.name for each in page}
        token = page.token
        if not token:
            return names


def end_stale_runs(client: Any, experiment_ids: Iterable[str]) -> None:
    """End runs that are RUNNING in the store although their process has died."""
    for found in client.search_runs(list(experiment_ids), "attributes.status = 'RUNNING'"):
        if not identity.is_dead(found.data.tags.get(Tag.PROCESS, "")):
            continue
        ended = _last_sign_of_life(client, found)
        # Its parent may set FAILED meanwhile, so the status is read just before it is changed.
        run = client.get_run(found.info.run_id)
        if run.info.status != "RUNNING":
            continue
        client.set_terminated(run.info.run_id, str(RunStatus.KILLED), ended)
        note = run.data.tags.get(Tag.NOTE, "")
        client.set_tag(run.info.run_id, Tag.NOTE, f"{note}{_KILLED_NOTE}")


def _last_sign_of_life(client: Any, run: Any) -> int | None:
    """Return the time of a run's last metric, or of its start, in milliseconds.

    The result is None for the parent of other runs, which logs at its end.
    """
    if run.data.tags.get(Tag.KIND) not in {None, RunKind.TRAINING}:
        return None
    rate = f"{TRAIN}/steps_per_second"  # logged more often than evaluations are
    points = [
        point
        for name in (Metric.EVAL_MEAN, rate)
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return int(max([run.info.start_time, *(point.timestamp for point in points)]))


def remove_killed_note(client: Any, run_id: str) -> None:
    """Remove what `end_stale_runs` has added to the description of a run that had ended."""
    note = client.get_run(run_id).data.tags.get(Tag.NOTE, "")
    if note.endswith(_KILLED_NOTE):
        client.set_tag(run_id, Tag.NOTE, note.removesuffix(_KILLED_NOTE))


def quoted(text: str) -> str:
    """Quote text for MLflow's search syntax, which cannot escape quotation marks.

    Raises:
      ConfigError: If the text holds both kinds of quotation marks.
    """
    for quote in "'\"":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise ConfigError(f"{text}: a name with both kinds of quotation marks cannot be searched for")


def is_transient(error: BaseException | None) -> bool:
    """Return whether a failure may pass: the store does not answer, or it is busy."""
    while error is not None:
        module = type(error).__module__.partition(".")[0]
        if isinstance(error, ConnectionError | TimeoutError) or module in {"requests", "urllib3"}:
            return True
        if getattr(error, "error_code", None) in _TRANSIENT or "database is locked" in str(error):
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def _one_at_a_time(store: StoreLocation) -> Iterator[None]:
    """Exclude other processes, as concurrent creation of a database breaks its migrations."""
    with contextlib.ExitStack() as stack:
        if store.database is not None:
            with contextlib.suppress(OSError):  # a read-only store is not created either
                stack.enter_context(file_lock(store.database.parent / ".lock"))
        yield
