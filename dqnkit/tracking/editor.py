"""Changes to runs by id, made by a process that manages runs which other processes train."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from typing_extensions import override

from dqnkit._system.text import one_line
from dqnkit.config.sections import Config
from dqnkit.errors import TrackingError
from dqnkit.events import RunStatus
from dqnkit.tracking.client import connect, end_stale_runs, quoted, wrap_store_errors
from dqnkit.tracking.location import AUTO, StoreLocation, locate_store
from dqnkit.tracking.names import Artifact

_ATTEMPTS = 3
_RETRY_SECONDS = 1.0
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RegisteredPolicy:
    """A version of a registered model."""

    version: str
    env: str
    """Gymnasium id of its environment; empty if it is not known."""
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registration:
    """Outcome of the registration of a policy."""

    version: str
    has_alias: bool
    """True if the alias refers to it now."""
    other: RegisteredPolicy | None
    """The version that the alias referred to before, if it is another one."""


MayReplace = Callable[[RegisteredPolicy], bool]


class RunEditor:
    """Changes runs of one experiment by id. This base class changes nothing."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        """Descriptions of changes that failed."""

    def check(self, model: str, alias: str) -> None:
        """Check that the store answers and supports aliases of registered models.

        Raises:
          TrackingError: If it does not.
        """

    def find(self, tags: Mapping[str, str]) -> str | None:
        """Return the id of a run with these tags; None if there is none."""
        del tags
        return None

    def end_orphans(self, tags: Mapping[str, str], new_tags: Mapping[str, str]) -> None:
        """Set RUNNING runs with some tags to KILLED, and set new tags.

        Args:
          tags: Tags of the runs, which no process may be writing.
          new_tags: Tags to set.
        """

    def end_stale(self) -> None:
        """End runs of the experiment whose process has died."""

    def mark(
        self, run_id: str | None, tags: Mapping[str, str], status: RunStatus | None = None
    ) -> None:
        """Set tags of a run, and end it with a status if it is still RUNNING.

        Args:
          run_id: Id of the run; None, for a run that is not recorded, changes nothing.
          tags: Tags to set.
          status: Final status of the run; None leaves it as it is.
        """

    def register(
        self,
        run_id: str,
        model: str,
        alias: str,
        tags: Mapping[str, str],
        may_replace: MayReplace = lambda _: True,
    ) -> Registration | None:
        """Register a run's policy as a version of a model and give it an alias.

        Args:
          run_id: Id of the run.
          model: Name of the model.
          alias: The alias.
          tags: Tags of the version.
          may_replace: Called with the version that has the alias so far; false leaves it there.

        Returns:
          The outcome; None if the policy could not be registered.
        """
        del run_id, model, alias, tags, may_replace
        return None


class MlflowRunEditor(RunEditor):
    """Changes runs of one experiment in an MLflow store.

    Each change is tried a few times. A failure is recorded in `problems` and not raised, because
    it must not end a search.
    """

    def __init__(self, location: StoreLocation, experiment: str) -> None:
        super().__init__()
        self._location = location
        self._experiment = experiment

    @override
    def check(self, model: str, alias: str) -> None:
        with wrap_store_errors(self._location):
            client = self._client
            from mlflow.exceptions import MlflowException  # already loaded by the client

            try:
                client.get_model_version_by_alias(model, alias)
            except MlflowException as error:
                # A missing version is another error; an old server does not have the endpoint.
                if "error code 404" in str(error):
                    raise TrackingError(
                        f"the tracking store {self._location.name} does not support aliases of "
                        "registered models: upgrade its MLflow to 2.3 or later, or choose another "
                        "store with `tracking_uri`"
                    ) from error

    @override
    def find(self, tags: Mapping[str, str]) -> str | None:
        runs = self._attempt("finding a run by its tags", lambda: self._search(tags, limit=1))
        return runs[0].info.run_id if runs else None

    @override
    def end_orphans(self, tags: Mapping[str, str], new_tags: Mapping[str, str]) -> None:
        def end() -> None:
            for run in self._search(tags, "attributes.status = 'RUNNING'"):
                self._mark(run.info.run_id, new_tags, RunStatus.KILLED)

        self._attempt("ending interrupted runs", end)

    @override
    def end_stale(self) -> None:
        with contextlib.suppress(Exception):  # the next command that reads the store does it
            end_stale_runs(self._client, self._experiment_ids)

    @override
    def mark(
        self, run_id: str | None, tags: Mapping[str, str], status: RunStatus | None = None
    ) -> None:
        if run_id is not None:
            self._attempt(f"updating the run {run_id}", lambda: self._mark(run_id, tags, status))

    @override
    def register(
        self,
        run_id: str,
        model: str,
        alias: str,
        tags: Mapping[str, str],
        may_replace: MayReplace = lambda _: True,
    ) -> Registration | None:
        return self._attempt(
            f"registering {model}@{alias}",
            lambda: self._register(run_id, model, alias, tags, may_replace),
        )

    @cached_property
    def _client(self) -> Any:
        return connect(self._location)

    @property
    def _experiment_ids(self) -> list[str]:
        found = self._client.get_experiment_by_name(self._experiment)
        return [found.experiment_id] if found is not None else []

    def _search(self, tags: Mapping[str, str], *conditions: str, limit: int = 1_000) -> list[Any]:
        by_tag = [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]
        where = " AND ".join([*by_tag, *conditions])
        ids = self._experiment_ids
        return list(self._client.search_runs(ids, where, 1, limit)) if ids else []

    def _mark(self, run_id: str, tags: Mapping[str, str], status: RunStatus | None) -> None:
        from mlflow.entities import RunTag  # already loaded by the client

        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if status is None:
            return
        # Another process may have found the worker of a failed run dead, and ended it as KILLED.
        open_for = {"RUNNING", "KILLED"} if status is RunStatus.FAILED else {"RUNNING"}
        if self._client.get_run(run_id).info.status in open_for:
            self._client.set_terminated(run_id, str(status))

    def _register(
        self,
        run_id: str,
        model: str,
        alias: str,
        tags: Mapping[str, str],
        may_replace: MayReplace,
    ) -> Registration:
        client = self._client
        from mlflow.exceptions import MlflowException  # already loaded by the client

        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        if not client.list_artifacts(run_id, Artifact.POLICY):
            command = self._location.command_line("sync")
            raise TrackingError(
                f"the policy of the run {run_id} is not in the store yet: `{command}` sends what "
                "waits on this machine; then call the search again, which registers it"
            )
        # A finished search may be repeated, and so may a call whose answer was lost.
        known = client.search_model_versions(f"run_id = '{run_id}'")
        versions = [each.version for each in known if each.name == model]
        if not versions:
            source = f"{client.get_run(run_id).info.artifact_uri}/{Artifact.POLICY}"
            made = client.create_model_version(model, source, run_id, tags=dict(tags))
            versions = [made.version]
        version = str(versions[0])
        other = self._with_alias(model, alias)
        if other is not None and other.version == version:
            return Registration(version, has_alias=True, other=None)
        gets_alias = other is None or may_replace(other)
        if gets_alias:
            client.set_registered_model_alias(model, alias, version)
        return Registration(version, gets_alias, other)

    def _with_alias(self, model: str, alias: str) -> RegisteredPolicy | None:
        """Return the version of a model that an alias refers to; None if there is none."""
        from mlflow.exceptions import MlflowException  # already loaded by the client

        try:
            found = self._client.get_model_version_by_alias(model, alias)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise
        env = found.tags.get("env", "")
        if not env and found.run_id:  # earlier versions of dqnkit wrote no such tag
            with contextlib.suppress(MlflowException):  # the run was deleted
                env = self._client.get_run(found.run_id).data.params.get("env.id", "")
        return RegisteredPolicy(str(found.version), env, dict(found.tags))

    def _attempt(self, what: str, action: Callable[[], _Result]) -> _Result | None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return action()
            except Exception as error:
                if attempt == _ATTEMPTS:
                    self.problems.append(f"{what} failed: {one_line(error)}")
                else:
                    time.sleep(_RETRY_SECONDS)
        return None


def make_run_editor(config: Config, tracking_uri: str | None = AUTO) -> RunEditor:
    """Make the editor of an experiment's runs.

    Args:
      config: Configuration that names the experiment; `tracking.enabled=false` changes nothing.
      tracking_uri: URI of the store (`locate_store`); None changes nothing.
    """
    if tracking_uri is None or not config.tracking.enabled:
        return RunEditor()
    return MlflowRunEditor(locate_store(tracking_uri).make(), config.name)
