"""The record of a run that others stand below: a study, or settings with several seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from dqnkit.errors import TrackingError
from dqnkit.events import RunStatus
from dqnkit.tracking.client import (
    PROCESS_TAG,
    connect,
    end_stale_runs,
    explained,
    quoted,
)
from dqnkit.tracking.delivery import take_up
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.tracker import NullTracker, Tracker


class ParentTracker(Tracker, Protocol):
    """A tracker that also adds to the runs below its own, which other processes write."""

    def check(self, name: str, alias: str) -> None:
        """Looks whether the store answers, and could take a registered model; before `start`.

        Raises:
          TrackingError: It does not, or could not.
        """

    def find(self, tags: Mapping[str, str]) -> str | None:
        """The id of the run of this experiment that has these tags; None if there is none."""

    def end_orphans(self, tags: Mapping[str, str], also: Mapping[str, str]) -> None:
        """Ends the runs that have these tags and are RUNNING, as KILLED: nobody writes them.

        Args:
          tags: To find them by.
          also: Tags to set.
        """

    def mark(self, run_id: str, tags: Mapping[str, str], status: RunStatus | None = None) -> None:
        """Adds to a run.

        Args:
          run_id: Of it.
          tags: To set.
          status: To end it with, where it has not ended by itself.
        """

    def claim(self) -> None:
        """Makes the run this process's, and RUNNING: one that shared it has died."""

    def leave(self, process: str | None) -> list[str]:
        """Like `finish`, where others go on with the run: it does not end.

        Args:
          process: One of them (see `processes`), whose the run is from now on, if one is known.
        """

    def register(self, run_id: str, name: str, alias: str, tags: Mapping[str, str]) -> str | None:
        """Makes the policy of a run a version of a registered model, and gives it the alias.

        Returns:
          The version; None if nothing is kept.
        """


class MlflowParentTracker(MlflowTracker):
    """In an MLflow store (`ParentTracker`)."""

    def check(self, name: str, alias: str) -> None:
        """See `ParentTracker`."""
        with explained(self._store):
            client = connect(self._store)
            from mlflow.exceptions import MlflowException  # the client has loaded it

            try:
                client.get_model_version_by_alias(name, alias)
            except MlflowException as error:
                # That there is none is in the store's own words; an old server knows no such page.
                if "error code 404" in str(error):
                    raise TrackingError(
                        f"the tracking store {self._store.name} knows no aliases of registered "
                        "models, so its MLflow is older than 2.3: upgrade it, or name another "
                        "store by --tracking-uri"
                    ) from error

    def find(self, tags: Mapping[str, str]) -> str | None:
        """See `ParentTracker`."""
        found: list[str] = []
        self._attempt("what became of a run", lambda: found.extend(self._found(tags)))
        return found[0] if found else None

    def end_orphans(self, tags: Mapping[str, str], also: Mapping[str, str]) -> None:
        """See `ParentTracker`."""
        self._attempt("what became of runs", lambda: self._end_orphans(tags, also))

    def mark(self, run_id: str, tags: Mapping[str, str], status: RunStatus | None = None) -> None:
        """See `ParentTracker`."""
        self._attempt(f"what became of the run {run_id}", lambda: self._mark(run_id, tags, status))

    def claim(self) -> None:
        """See `ParentTracker`."""
        run_id = self.run_id
        if run_id is not None:
            take = partial(take_up, self._delivery.client, run_id, {}, alone=False)
            self._attempt("whose the study's run is", take)

    def leave(self, process: str | None) -> list[str]:
        """See `ParentTracker`."""
        if self.run_id is not None and process is not None:
            self.mark(self.run_id, {PROCESS_TAG: process})
        return self._close(patiently=True)

    def register(self, run_id: str, name: str, alias: str, tags: Mapping[str, str]) -> str | None:
        """See `ParentTracker`."""
        versions: list[str] = []
        self._attempt(
            f"{name}@{alias}", lambda: versions.append(self._register(run_id, name, alias, tags))
        )
        return versions[0] if versions else None

    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        """See `Tracker`. A worker that was killed may have left a run that nobody knows of."""
        if self.run_id is not None:
            with contextlib.suppress(Exception):  # the next command that looks does it again
                end_stale_runs(self._delivery.client, [self._delivery.experiment_id])
        return super().finish(status, patiently=patiently)

    def _found(self, tags: Mapping[str, str]) -> list[str]:
        conditions = [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]
        experiments = [self._delivery.experiment_id]
        runs = self._delivery.client.search_runs(experiments, " AND ".join(conditions), 1, 1)
        return [run.info.run_id for run in runs]

    def _end_orphans(self, tags: Mapping[str, str], also: Mapping[str, str]) -> None:
        conditions = [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]
        conditions.append("attributes.status = 'RUNNING'")
        experiments = [self._delivery.experiment_id]
        for run in self._delivery.client.search_runs(experiments, " AND ".join(conditions)):
            self._mark(run.info.run_id, also, RunStatus.KILLED)

    def _mark(self, run_id: str, tags: Mapping[str, str], status: RunStatus | None) -> None:
        from mlflow.entities import RunTag  # mlflow is loaded by `start`

        client = self._delivery.client
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        if status is not None and client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, str(status))

    def _register(self, run_id: str, name: str, alias: str, tags: Mapping[str, str]) -> str:
        from mlflow.exceptions import MlflowException

        client = self._delivery.client

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # A search that is done may be asked for again, and a call whose answer is lost as well.
        known = client.search_model_versions(f"run_id = '{run_id}'")
        versions = [each.version for each in known if each.name == name]
        if versions:
            client.set_registered_model_alias(name, alias, versions[0])
            return str(versions[0])
        source = f"{client.get_run(run_id).info.artifact_uri}/policy"
        made: Any = client.create_model_version(name, source, run_id, tags=dict(tags))
        client.set_registered_model_alias(name, alias, made.version)
        return str(made.version)


class NullParentTracker(NullTracker):
    """Keeps nothing (`ParentTracker`)."""

    def check(self, name: str, alias: str) -> None:
        """See `ParentTracker`."""

    def find(self, tags: Mapping[str, str]) -> str | None:
        """See `ParentTracker`."""
        del tags
        return None

    def end_orphans(self, tags: Mapping[str, str], also: Mapping[str, str]) -> None:
        """See `ParentTracker`."""

    def mark(self, run_id: str, tags: Mapping[str, str], status: RunStatus | None = None) -> None:
        """See `ParentTracker`."""

    def claim(self) -> None:
        """See `ParentTracker`."""

    def leave(self, process: str | None) -> list[str]:
        """See `ParentTracker`."""
        del process
        return []

    def register(self, run_id: str, name: str, alias: str, tags: Mapping[str, str]) -> str | None:
        """See `ParentTracker`."""
        del run_id, name, alias, tags
        return None
