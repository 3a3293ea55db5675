"""Runs of training in an MLflow store: found, read, and added to."""

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
    NOTE_TAG,
    connect,
    end_stale_runs,
    experiment_names,
    explained,
    quoted,
)
from dqnkit.tracking.location import StoreLocation
from dqnkit.tracking.recorded_run import STUDY_TAG, RecordedRun
from dqnkit.tracking.tracker import COMPARISONS, KIND_TAG

_PAGE = 1_000


@dataclass(frozen=True)
class RunFilter:
    """Which runs are meant; None leaves them all."""

    experiment: str | None = None
    status: str | None = None
    """In MLflow's words."""
    study: str | None = None

    def conditions(self) -> Iterator[str]:
        """In MLflow's search syntax, the experiment left out."""
        yield f"tags.`{KIND_TAG}` = 'training'"
        if self.status is not None:
            yield f"attributes.status = {quoted(self.status)}"
        if self.study is not None:
            yield f"tags.`{STUDY_TAG}` = {quoted(self.study)}"


ANY = RunFilter()
"""All runs."""


class RunStore:
    """Reads a store. An embedded store that does not exist is empty, and is not made."""

    def __init__(self, store: StoreLocation) -> None:
        self.store = store

    @property
    def place(self) -> str:
        """The store, as messages name it."""
        return self.store.name

    @cached_property
    def client(self) -> Any:
        """MLflow's."""
        with explained(self.store):
            return connect(self.store)

    @cached_property
    def experiments(self) -> dict[str, str]:
        """Names by id, of those that are not deleted; their stale runs are set right first."""
        if self.store.is_empty:
            return {}
        with explained(self.store):
            names = experiment_names(self.client)
        with contextlib.suppress(Exception):  # a store that may only be read is left as it is
            end_stale_runs(self.client, names)
        return names

    def experiment_ids(self, name: str | None) -> list[str]:
        """Of one experiment, or of all.

        Raises:
          ConfigError: There is none of this name.
        """
        ids = [each for each, known in self.experiments.items() if name in {None, known}]
        if name is not None and not ids:
            others = set(self.experiments.values()) - {"Default", COMPARISONS}
            known = ", ".join(sorted(others)) or "none"
            raise ConfigError(f"there is no experiment {name!r} in {self.place}; it holds: {known}")
        return ids

    def runs(
        self,
        chosen: RunFilter = ANY,
        *,
        where: str | None = None,
        order_by: str = "attributes.start_time DESC",
        limit: int | None = None,
    ) -> list[RecordedRun]:
        """Runs of training, not deleted.

        Args:
          chosen: Which.
          where: A further condition, in MLflow's search syntax.
          order_by: In MLflow's syntax; later runs come first otherwise.
          limit: The most that are given.
        """
        ids = self.experiment_ids(chosen.experiment)
        conditions = " AND ".join([*chosen.conditions(), *([where] if where else [])])
        found: list[RecordedRun] = []
        token: str | None = None
        with explained(self.store):
            while ids and (limit is None or len(found) < limit):
                size = _PAGE if limit is None else min(_PAGE, limit - len(found))
                page = self.client.search_runs(ids, conditions, 1, size, [order_by], token)
                found += [self._recorded(run) for run in page]
                token = page.token
                if not token:
                    break
        return found

    def run(self, run_id: str) -> RecordedRun | None:
        """The run of an id, also one that is not of training; None if there is none.

        Raises:
          ConfigError: It was deleted.
        """
        if not self.experiments:
            return None
        from mlflow.exceptions import MlflowException  # the client has loaded it

        with explained(self.store):
            try:
                run = self.client.get_run(run_id)
            except MlflowException as error:
                if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    return None
                raise
            if run.info.lifecycle_stage == "deleted":
                raise ConfigError(
                    f"the run {run_id} was deleted in MLflow; restore it by "
                    f"`mlflow runs restore --run-id {run_id}`, or give another"
                )
            return self._recorded(run)

    def history(self, run: RecordedRun, metric: str) -> list[tuple[int, float]]:
        """Steps and values of a metric, the last value of each step."""
        with explained(self.store):
            points = self.client.get_metric_history(run.id, metric)
        points = sorted(points, key=lambda point: (point.step, point.timestamp))
        return list({point.step: point.value for point in points}.items())

    def artifacts(self, run: RecordedRun) -> set[str]:
        """Paths of what stands at the top of a run's artifacts.

        Raises:
          TrackingError: They should be on this machine, and are not.
        """
        folder = self._folder(run)
        if folder is not None:
            return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        with explained(self.store):
            return {each.path for each in self.client.list_artifacts(run.id)}

    def fetch(self, run: RecordedRun, path: str, into: Path) -> Path:
        """An artifact, file or folder: where it stands, or copied below a folder.

        Raises:
          TrackingError: It cannot be had, though the run should have it.
        """
        folder = self._folder(run)
        if folder is not None and (folder / path).exists():
            return folder / path
        try:
            return Path(self.client.download_artifacts(run.id, path, str(into)))
        except Exception as error:  # of MLflow, requests, the file system and cloud stores
            raise TrackingError(
                f"the artifact {path!r} of the run {run.label} cannot be read: {one_line(error)}"
            ) from error

    def fetch_model(self, name: str, version: str, into: Path) -> Path:
        """A registered model's files, below a folder of this machine."""
        from mlflow.artifacts import download_artifacts

        with explained(self.store):
            uri = self.client.get_model_version_download_uri(name, version)
            return Path(download_artifacts(uri, dst_path=str(into), tracking_uri=self.store.uri))

    def local_path(self, run: RecordedRun, path: str) -> Path | None:
        """Where an artifact stands on this machine; None if a server keeps it elsewhere."""
        folder = self._folder(run)
        return folder / path if folder is not None and (folder / path).exists() else None

    def _folder(self, run: RecordedRun) -> Path | None:
        """Where a run's artifacts are on this machine; None if a server keeps them.

        MLflow records absolute addresses. An embedded store that was copied or moved has its
        artifacts with it, and those of the place where it was made are not its own.

        Raises:
          TrackingError: The store was moved without its artifacts.
        """
        own = self.store.artifacts and (
            self.store.artifacts / run.experiment / run.id / "artifacts"
        )
        if own is not None and own.is_dir():
            return own
        recorded = urlsplit(run.artifact_uri)
        if recorded.scheme not in {"", "file"}:
            return None
        folder = Path(unquote(recorded.path))
        experiment = folder.parent.parent
        if self.store.database is not None and not experiment.is_dir():
            raise TrackingError(
                f"the artifacts of the run {run.label} should be in {folder}, which does not "
                f"exist: the store {self.store.database} was moved without them"
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
        """Adds to a run that has ended.

        Args:
          run: As it was read.
          metrics: At the step of the last that it has.
          files: A folder; all below it become artifacts.
          note: The description that takes the place of the run's.

        Returns:
          What could not be kept, in words.
        """
        from mlflow.entities import Metric

        problems: list[str] = []
        try:
            if metrics:
                points = self.client.get_metric_history(run.id, "final/return_mean")
                step = max((point.step for point in points), default=0)
                now = int(time.time() * 1000)
                values = [Metric(key, value, now, step) for key, value in metrics.items()]
                self.client.log_batch(run.id, metrics=values)
            if files is not None:
                self._keep(run, files)
            if note is not None:
                self.client.set_tag(run.id, NOTE_TAG, note)
        except Exception as error:  # whatever the store's trouble is, the result is worth showing
            problems.append(f"the run {run.label} could not be added to: {one_line(error)}")
        return problems

    def _keep(self, run: RecordedRun, files: Path) -> None:
        folder = self._folder(run)
        if folder is None or self.store.database is None:
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
    """The condition, in MLflow's search syntax, that a run has a metric."""
    return f"metrics.`{name}` > -1e300"


def highest(name: str) -> str:
    """The order, in MLflow's syntax, that begins with the highest of a metric."""
    return f"metrics.`{name}` DESC"
