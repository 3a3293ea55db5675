"""Finding an interrupted run, and the checkpoint from which it continues."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, CheckpointError, ConfigError, TrackingError
from dqnkit.runs.checkpoints import Checkpoint, CheckpointFolder
from dqnkit.tracking.names import Artifact, RunKind, Tag
from dqnkit.tracking.outbox import count_undelivered, folders_of_run
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunStore


@dataclass(frozen=True)
class Resumption:
    """A run that can be resumed."""

    run_id: str
    run_name: str
    config: Config
    ended: float | None
    """End time, in seconds since the epoch."""
    checkpoint: Checkpoint | None
    """The newest undamaged checkpoint; None if there is none, so that the run starts over."""
    warnings: tuple[str, ...] = ()
    """Warnings for the user, such as a damaged checkpoint."""

    @property
    def iteration(self) -> int:
        """Iteration at which training continues."""
        return self.checkpoint.iteration if self.checkpoint else 0


def find_resumption(store: RunStore, reference: str) -> Resumption:
    """Find a run and its newest undamaged checkpoint.

    Args:
      store: The store that has the run.
      reference: Reference to the run (`dqnkit.tracking.references.FORMS`).

    Raises:
      ConfigError: If there is no such run, or it is complete, in training, or part of a search.
      CheckpointError: If nothing of the run is left to continue from.
      TrackingError: If the store cannot be read.
    """
    try:
        run = find_run(store, reference)
    except ConfigError as error:
        if count_undelivered(store.location):
            command = store.location.command_line("sync")
            error.add_note(f"some runs are not fully in the store yet: `{command}` sends them")
        raise
    _check_kind(run)
    warnings: list[str] = []
    found = [*_local_checkpoints(store, run, warnings), *_artifact(store, run, warnings)]
    newest = max(found, key=lambda each: each.iteration, default=None)
    if newest is None and warnings:
        raise CheckpointError(
            f"the run {run.label} has a checkpoint that cannot be read, and is left as it is: "
            f"{'; '.join(warnings)}. Call the command again when the checkpoint can be read, or "
            f"start a new run from its artifact {Artifact.CONFIG}"
        )
    config = _config(store, run) if newest is None else _parse(newest.config, run)
    if newest is None:
        warnings.append(f"the run {run.label} has no checkpoint; it starts over")
    elif run.status == "FINISHED" and newest.iteration >= config.training.num_iterations:
        raise ArgumentError(
            "run",
            reference,
            f"the run {run.label} is complete, with all {config.training.num_iterations:,} "
            f"iterations; to train longer, start a new run from its artifact {Artifact.CONFIG} "
            "with more training.num_iterations",
        )
    return Resumption(run.id, run.name, config, run.ended, newest, tuple(warnings))


def _check_kind(run: RecordedRun) -> None:
    if run.tags.get(Tag.KIND) != RunKind.TRAINING:
        raise ConfigError(
            f"the run {run.label} is not the training of one seed and cannot be resumed"
        )
    if Tag.STUDY in run.tags:
        study = run.tags[Tag.STUDY]
        raise ConfigError(
            f"the run {run.label} belongs to the study {study!r}, which would not know about it: "
            "resume the study instead"
        )
    if run.status == "RUNNING":
        raise ConfigError(
            f"the run {run.label} is being trained: wait for it, or end it; if its machine was "
            f"lost, tell MLflow first: MlflowClient(…).set_terminated({run.id!r}, 'KILLED')"
        )


def _local_checkpoints(
    store: RunStore, run: RecordedRun, warnings: list[str]
) -> Iterator[Checkpoint]:
    """Yield the newest checkpoint that a process left on this machine, and those to be sent."""
    folder = next(folders_of_run(store.location.home, run.id), None)
    if folder is None:
        return
    checkpoint, damaged = CheckpointFolder(folder / Artifact.CHECKPOINTS).newest()
    then = "; the one before it is used" if checkpoint else ""
    warnings += [f"{damage}{then}" for damage in damaged]
    if checkpoint is not None:
        yield checkpoint
    for path in folder.glob(f"files/*/{Artifact.CHECKPOINTS}/{Artifact.LAST_CHECKPOINT}"):
        yield from _read(path, str(path), warnings)


def _artifact(store: RunStore, run: RecordedRun, warnings: list[str]) -> Iterator[Checkpoint]:
    """Yield the checkpoint among the run's artifacts, if there is one."""
    name = f"{Artifact.CHECKPOINTS}/{Artifact.LAST_CHECKPOINT}"
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        try:
            if not _has_artifact(store, run, Artifact.CHECKPOINTS):
                return
            path = store.fetch(run, name, Path(scratch))
        except TrackingError as error:
            warnings.append(str(error))
        else:
            yield from _read(path, f"{name} of {run.label}", warnings)


def _read(path: Path, source: str, warnings: list[str]) -> Iterator[Checkpoint]:
    try:
        yield Checkpoint.load(path, source)
    except CheckpointError as error:
        warnings.append(str(error))


def _config(store: RunStore, run: RecordedRun) -> Config:
    """Return the configuration that was recorded when the run began."""
    for folder in folders_of_run(store.location.home, run.id):
        for path in sorted(folder.glob(f"files/*/{Artifact.CONFIG}")):
            return _parse(path.read_text(encoding="utf-8"), run)
    if not _has_artifact(store, run, Artifact.CONFIG):
        raise CheckpointError(
            f"the run {run.label} ended before anything of it was recorded: start a new run"
        )
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        text = store.fetch(run, Artifact.CONFIG, Path(scratch)).read_text(encoding="utf-8")
    return _parse(text, run)


def _has_artifact(store: RunStore, run: RecordedRun, artifact: str) -> bool:
    try:
        return artifact in store.artifacts(run)
    except TrackingError:
        if store.location.database is None:
            raise
        return False  # the folder of an embedded store is made with the first artifact


def _parse(text: str, run: RecordedRun) -> Config:
    return loading.load_recorded(text, f"{Artifact.CONFIG} of {run.label}")
