"""A run that ended before its time, and what it goes on from."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from dqnkit._system import arrays
from dqnkit._system.arrays import CheckpointFolder
from dqnkit._system.commands import as_typed
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import CheckpointError, ConfigError, TrackingError
from dqnkit.runs.snapshot import Snapshot
from dqnkit.tracking import outbox
from dqnkit.tracking.outbox import CHECKPOINTS, LAST_CHECKPOINT
from dqnkit.tracking.recorded_run import STUDY_TAG, RecordedRun
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunStore
from dqnkit.tracking.sync import waiting
from dqnkit.tracking.tracker import KIND_TAG

_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Resumption:
    """A run that can go on."""

    run_id: str
    run_name: str
    config: Config
    ended: float | None
    """When, in seconds since the epoch."""
    snapshot: Snapshot | None
    """The last checkpoint; None where the run ended before the first: it begins anew."""
    warnings: tuple[str, ...] = ()
    """What the user should know, such as of a checkpoint that is damaged."""


def find(reader: RunStore, reference: str) -> Resumption:
    """What a reference to a run goes on from: its newest checkpoint that is whole.

    Raises:
      ConfigError: It means no run, or one that is complete, in training, or part of a search.
      CheckpointError: There is nothing to go on from.
      TrackingError: The store cannot be used.
    """
    try:
        run = find_run(reader, reference)
    except ConfigError as error:
        if waiting(reader.store):
            command = as_typed(reader.store.command("sync"))
            error.add_note(f"of some runs not all is in the store: `{command}` sends it")
        raise
    _check_kind(run)
    warnings: list[str] = []
    snapshots = [_own(reader, run, warnings), _kept(reader, run, warnings)]
    found = [each for each in snapshots if each is not None]
    newest = max(found, key=lambda each: each.iteration, default=None)
    config = _config(reader, run) if newest is None else _parsed(newest.config, run)
    if newest is None:
        warnings.append(f"the run {run.label} has no checkpoint yet, and begins anew")
    elif run.status == "FINISHED" and newest.iteration >= config.training.num_iterations:
        raise ConfigError(
            f"--resume {reference}: the run {run.label} is complete, with all "
            f"{config.training.num_iterations:,} iterations; to train longer, save its artifact "
            "config.yaml and give that with --set training.num_iterations=…"
        )
    return Resumption(run.id, run.name, config, run.ended, newest, tuple(warnings))


def _check_kind(run: RecordedRun) -> None:
    if run.tags.get(KIND_TAG) != "training":
        raise ConfigError(f"the run {run.label} is no training of one seed: nothing in it goes on")
    if STUDY_TAG in run.tags:
        study = run.tags[STUDY_TAG]
        raise ConfigError(
            f"the run {run.label} belongs to the study {study!r}, which knows nothing of it then: "
            f"`dqnkit tune … --study {study}` goes on with the study"
        )
    if run.status == "RUNNING":
        raise ConfigError(
            f"the run {run.label} is being trained: wait for it, or end it; if its machine was "
            f"lost, say so to MLflow first: MlflowClient(…).set_terminated({run.id!r}, 'KILLED')"
        )


def _own(reader: RunStore, run: RecordedRun, warnings: list[str]) -> Snapshot | None:
    """Of the run's folder on this machine, where its process was killed."""
    folder = outbox.folder_of(reader.store.home, run.id)
    if folder is None:
        return None
    found, damaged = CheckpointFolder(folder / CHECKPOINTS).newest()
    then = "; the one before it is taken" if found else ""
    warnings += [f"{damage}{then}" for damage in damaged]
    return Snapshot.of(found.arrays, str(found.path)) if found else None


def _kept(reader: RunStore, run: RecordedRun, warnings: list[str]) -> Snapshot | None:
    """Of the run's artifacts."""
    kept = f"{CHECKPOINTS}/{LAST_CHECKPOINT}"
    if not _has(reader, run, CHECKPOINTS):
        return None
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        try:
            path = reader.fetch(run, kept, Path(scratch))
            return Snapshot.of(arrays.load_arrays(path), f"{kept} of {run.label}")
        except (CheckpointError, TrackingError) as error:
            warnings.append(str(error))
            return None


def _config(reader: RunStore, run: RecordedRun) -> Config:
    """As it was kept when the run began."""
    folder = outbox.folder_of(reader.store.home, run.id)
    for path in sorted(folder.glob(f"files/*/{_CONFIG}")) if folder else ():
        return _parsed(path.read_text(encoding="utf-8"), run)
    if not _has(reader, run, _CONFIG):
        raise CheckpointError(
            f"the run {run.label} ended before anything of it was kept: train it anew"
        )
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        text = reader.fetch(run, _CONFIG, Path(scratch)).read_text(encoding="utf-8")
    return _parsed(text, run)


def _has(reader: RunStore, run: RecordedRun, artifact: str) -> bool:
    try:
        return artifact in reader.artifacts(run)
    except TrackingError:  # their folder is made with the first of them
        return False


def _parsed(text: str, run: RecordedRun) -> Config:
    return loading.load_recorded(text, f"{_CONFIG} of {run.label}")
