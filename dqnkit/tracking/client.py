"""MLflow's client, made ready: quiet, quick to give up, alone while a database is made."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

from dqnkit._system.text import one_line
from dqnkit.errors import ConfigError, DqnkitError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking.location import StoreLocation

PROCESS_TAG = "dqnkit.process"
"""Tag that names the process which writes a run (see `processes`)."""
NOTE_TAG = "mlflow.note.content"
"""MLflow's tag for a run's description, in Markdown."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's tag that puts a run below another."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # A policy's requirements are named by us, whatever project the caller stands in.
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOG_UV_FILES": "false",
}

_PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
"""MLflow's words for an answer of 500, 503 or 429, and for none at all."""


def connect(store: StoreLocation) -> Any:
    """An `MlflowClient`; a database that does not exist yet is made."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # seconds that only a record needs

    # What they have to say of a store that is away or full, they raise too.
    for library in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with _one_at_a_time(store):
        client = MlflowClient(store.uri)
        client.search_experiments(max_results=1)  # which makes or migrates it
    return client


@contextlib.contextmanager
def explained(store: StoreLocation, advice: str = "") -> Iterator[None]:
    """Turns what MLflow lets out, its own errors, requests' and SQLAlchemy's, into ours."""
    try:
        yield
    except DqnkitError:
        raise
    except Exception as error:
        question = "" if store.database is not None else " Is it running?"
        raise TrackingError(
            f"the tracking store {store.name} cannot be used: "
            f"{one_line(error)}.{question} Name another by --tracking-uri{advice}"
        ) from error


def experiment_id(client: Any, store: StoreLocation, name: str) -> str:
    """The id of an experiment, which is made where it is missing.

    Raises:
      TrackingError: It was deleted.
    """
    from mlflow.exceptions import MlflowException

    location = store.artifacts and (store.artifacts / name).as_uri()
    # The tag opens MLflow's UI on the pages for training rather than for language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, location, tags))
        except MlflowException:  # another process was first, unless there is none now either
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {name!r} was deleted in MLflow: restore it by "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or "
            "train under another name by --set name=…"
        )
    return str(experiment.experiment_id)


def experiment_names(client: Any) -> dict[str, str]:
    """Names by id of all experiments that are not deleted."""
    names: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_experiments(page_token=token)
        names |= {each.experiment_id: each.name for each in page}
        token = page.token
        if not token:
            return names


def end_stale_runs(client: Any, experiment_ids: Iterable[str]) -> None:
    """A run whose process was killed cannot say so itself."""
    for found in client.search_runs(list(experiment_ids), "attributes.status = 'RUNNING'"):
        if not identity.is_dead(found.data.tags.get(PROCESS_TAG, "")):
            continue
        run = client.get_run(found.info.run_id)
        if run.info.status != "RUNNING":  # it has ended by itself since it was found
            continue
        note = run.data.tags.get(NOTE_TAG, "")
        client.set_tag(run.info.run_id, NOTE_TAG, f"{note}\n\nIts process was killed.")
        last = client.get_metric_history(run.info.run_id, "eval/return_mean")
        ended = max((point.timestamp for point in last), default=None)
        client.set_terminated(run.info.run_id, str(RunStatus.KILLED), ended)


def quoted(text: str) -> str:
    """A string of MLflow's search syntax, which has no escape for both kinds of quotes at once.

    Raises:
      ConfigError: It holds both.
    """
    for quote in "'\"":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise ConfigError(f"{text}: no name holds both kinds of quotation marks")


def may_pass(error: BaseException | None) -> bool:
    """Whether a failure may be over a little later: nobody answers, or the store is busy."""
    while error is not None:
        module = type(error).__module__.partition(".")[0]
        if isinstance(error, ConnectionError | TimeoutError) or module in {"requests", "urllib3"}:
            return True
        if getattr(error, "error_code", None) in _PASSING or "database is locked" in str(error):
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def _one_at_a_time(store: StoreLocation) -> Iterator[None]:
    """Processes that create one database together break each other's migrations."""
    if store.database is None:
        yield
        return
    import fcntl  # not on every platform

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # what cannot be written is not made either
            lock = stack.enter_context((store.database.parent / ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
