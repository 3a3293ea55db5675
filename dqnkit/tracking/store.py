"""Runs in an MLflow store: finding and reading them, and adding to them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dqnkit._system.text import one_line
from dqnkit.errors import ConfigError, TrackingError
from dqnkit.tracking.client import (
    connect,
    end_stale_runs,
    experiment_names,
    quoted,
    wrap_store_errors,
)
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.names import COMPARISONS, Metric, RunKind, Tag
from dqnkit.tracking.recorded_run import RecordedRun

_PAGE = 1_000
"""Runs that MLflow returns in one call."""


@dataclass(frozen=True)
class RunFilter:
    """Criteria for runs; None does not restrict."""

    experiment: str | None = None
    status: str | None = None
    """MLflow's status: RUNNING, FINISHED, FAILED or KILLED."""
    study: str | None = None
    kind: RunKind = RunKind.TRAINING

    def conditions(self) -> Iterator[str]:
        """Yield the conditions in MLflow's search syntax, without the experiment."""
        yield f"tags.`{Tag.KIND}` = '{self.kind}'"
        if self.status is not None:
            yield f"attributes.status = {quoted(self.status)}"
        if self.study is not None:
            yield f"tags.`{Tag.STUDY}` = {quoted(self.study)}"


ALL_RUNS = RunFilter()


class RunStore:
    """Read access to a store. A missing embedded store reads as empty and is not created."""

    def __init__(self, location: StoreLocation) -> None:
        self.location = location

    @cached_property
    def client(self) -> Any:
        """MLflow's client."""
        with wrap_store_errors(self.location):
            return connect(self.location)

    @cached_property
    def experiments(self) -> dict[str, str]:
        """Names of the experiments that are not deleted, by id, after ending their stale runs."""
        if self.location.is_empty:
            return {}
        with wrap_store_errors(self.location):
            names = experiment_names(self.client)
        with contextlib.suppress(Exception):  # a read-only store stays as it is
            end_stale_runs(self.client, names)
        return names

    def experiment_ids(self, name: str | None) -> list[str]:
        """Return the id of one experiment, or the ids of all.

        Raises:
          ConfigError: If there is no experiment of this name.
        """
        ids = [each for each, known in self.experiments.items() if name in {None, known}]
        if name is not None and not ids:
            others = set(self.experiments.values()) - {"Default", COMPARISONS}
            known = ", ".join(sorted(others)) or "none"
            raise ConfigError(
                f"there is no experiment {name!r} in {self.location.name}; it holds: {known}"
            )
        return ids

    def runs(
        self,
        criteria: RunFilter = ALL_RUNS,
        *,
        where: str | None = None,
        order_by: str = "attributes.start_time DESC",
        limit: int | None = None,
    ) -> list[RecordedRun]:
        """Return runs, by default of training, that are not deleted.

        Args:
          criteria: Criteria for the runs.
          where: A further condition, in MLflow's search syntax.
          order_by: Order in MLflow's syntax; latest first by default.
          limit: Maximum number of runs.
        """
        ids = self.experiment_ids(criteria.experiment)
        conditions = " AND ".join([*criteria.conditions(), *([where] if where else [])])
        found: list[RecordedRun] = []
        token: str | None = None
        with wrap_store_errors(self.location):
            while ids and (limit is None or len(found) < limit):
                size = _PAGE if limit is None else min(_PAGE, limit - len(found))
                page = self.client.search_runs(ids, conditions, 1, size, [order_by], token)
                found += [self._recorded(run) for run in page]
                token = page.token
                if not token:
                    break
        return found

    def run(self, run_id: str) -> RecordedRun | None:
        """Return the run with an id, of any kind; None if there is none.

        Raises:
          ConfigError: If it was deleted in MLflow.
        """
        if not self.experiments:
            return None
        from mlflow.exceptions import MlflowException  # already loaded by the client

        with wrap_store_errors(self.location):
            try:
                run = self.client.get_run(run_id)
            except MlflowException as error:
                if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    return None
                raise
            if run.info.lifecycle_stage == "deleted":
                restore = self.location.mlflow_command_line(f"runs restore --run-id {run_id}")
                raise ConfigError(
                    f"the run {run_id} was deleted in MLflow; restore it by `{restore}`, or give "
                    "another"
                )
            return self._recorded(run)

    def history(self, run: RecordedRun, metric: str) -> list[tuple[int, float]]:
        """Return steps and values of a metric, with the last value of each step."""
        with wrap_store_errors(self.location):
            points = self.client.get_metric_history(run.id, metric)
        points = sorted(points, key=lambda point: (point.step, point.timestamp))
        return list({point.step: point.value for point in points}.items())

    def artifacts(self, run: RecordedRun) -> set[str]:
        """Return the names at the top level of a run's artifacts.

        Raises:
          TrackingError: If they should be on this machine and are not.
        """
        folder = self._folder(run)
        if folder is not None:
            return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        with wrap_store_errors(self.location):
            return {each.path for each in self.client.list_artifacts(run.id)}

    def fetch(self, run: RecordedRun, path: str, into: Path) -> Path:
        """Return the path of an artifact, file or folder, on this machine.

        Args:
          run: The run.
          path: Path among the run's artifacts.
          into: Folder for the download, if the artifact is not on this machine.

        Raises:
          TrackingError: If it cannot be read.
        """
        folder = self._folder(run)
        if folder is not None and (folder / path).exists():
            return folder / path
        try:
            return Path(self.client.download_artifacts(run.id, path, str(into)))
        except Exception as error:  # from MLflow, requests, the file system or a cloud store
            raise TrackingError(
                f"the artifact {path!r} of the run {run.label} cannot be read: {one_line(error)}"
            ) from error

    def fetch_model(self, name: str, version: str, into: Path) -> Path:
        """Download the files of a registered model into a folder; return their path."""
        from mlflow.artifacts import download_artifacts

        with wrap_store_errors(self.location):
            uri = self.client.get_model_version_download_uri(name, version)
            return Path(download_artifacts(uri, dst_path=str(into), tracking_uri=self.location.uri))

    def local_path(self, run: RecordedRun, path: str) -> Path | None:
        """Return the path of an artifact if it is on this machine, else None."""
        folder = self._folder(run)
        return folder / path if folder is not None and (folder / path).exists() else None

    def _folder(self, run: RecordedRun) -> Path | None:
        """Return the folder of a run's artifacts; None if a server keeps them.

        MLflow records absolute addresses. An embedded store that was copied or moved has its
        artifacts beside it, and those at the recorded address are not its own.

        Raises:
          TrackingError: If the store was moved without its artifacts.
        """
        own = self.location.artifacts and (
            self.location.artifacts / run.experiment / run.id / "artifacts"
        )
        if own is not None and own.is_dir():
            return own
        recorded = urlsplit(run.artifact_uri)
        if recorded.scheme not in {"", "file"}:
            return None
        folder = Path(unquote(recorded.path))
        experiment = folder.parent.parent
        if self.location.database is not None and not experiment.is_dir():
            raise TrackingError(
                f"the artifacts of the run {run.label} should be in {folder}, which does not "
                f"exist: the store {self.location.database} was moved without them"
            )
        return folder

    def add(
        self,
        run: RecordedRun,
        *,
        metrics: Mapping[str, float] | None = None,
        files: Path | None = None,
        note: str | None = None,
    ) -> list[str]:
        """Add to a run that has ended.

        Args:
          run: The run.
          metrics: Metrics, logged at the step of its final score.
          files: A folder whose files become artifacts.
          note: A new description.

        Returns:
          Descriptions of what could not be added.
        """
        from mlflow.entities import Metric as MlflowMetric

        problems: list[str] = []
        try:
            if metrics:
                points = self.client.get_metric_history(run.id, Metric.FINAL_MEAN)
                step = max((point.step for point in points), default=0)
                now = int(time.time() * 1000)
                values = [MlflowMetric(key, value, now, step) for key, value in metrics.items()]
                self.client.log_batch(run.id, metrics=values)
            if files is not None:
                self._add_files(run, files)
            if note is not None:
                self.client.set_tag(run.id, Tag.NOTE, note)
        except Exception as error:  # the caller shows its result all the same
            problems.append(f"the run {run.label} could not be added to: {one_line(error)}")
        return problems

    def _add_files(self, run: RecordedRun, files: Path) -> None:
        folder = self._folder(run)
        if folder is None or self.location.database is None:
            self.client.log_artifacts(run.id, str(files))
        else:
            shutil.copytree(files, folder, dirs_exist_ok=True)

    def _recorded(self, run: Any) -> RecordedRun:
        return RecordedRun(
            id=run.info.run_id,
            name=run.info.run_name,
            experiment=self.experiments.get(run.info.experiment_id, ""),
            status=run.info.status,
            started=run.info.start_time / 1000,
            ended=None if run.info.end_time is None else run.info.end_time / 1000,
            params=run.data.params,
            metrics=run.data.metrics,
            tags=run.data.tags,
            artifact_uri=run.info.artifact_uri,
        )


def with_metric(name: str) -> str:
    """Return the condition, in MLflow's search syntax, that a run has a metric."""
    return f"metrics.`{name}` > -1e300"


def highest_first(name: str) -> str:
    """Return the order, in MLflow's syntax, by a metric from its highest value down."""
    return f"metrics.`{name}` DESC"
