"""Finding an interrupted group of seeds, and what its runs have reached."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dqnkit.config import loading
from dqnkit.config.fingerprint import SEED
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, CheckpointError
from dqnkit.events import RunStatus
from dqnkit.tracking.client import quoted
from dqnkit.tracking.names import Artifact, Metric, RunKind, Tag
from dqnkit.tracking.outbox import folders_of_run
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.store import RunFilter, RunStore
from dqnkit.workers.seed_group import GroupRecord, SeedGroup, SeedResult


def find_group(store: RunStore, reference: str) -> RecordedRun | None:
    """Return the run of a group of seeds by its name or id; None if no group has it."""
    if "'" in reference and '"' in reference:  # not expressible in MLflow's syntax
        return None
    by_name = f"attributes.run_name = {quoted(reference)}"
    found = store.runs(RunFilter(kind=RunKind.SEEDS), where=by_name, limit=1)
    run = found[0] if found else None
    if run is None and len(reference) == 32:
        run = store.run(reference)
    return run if run is not None and run.tags.get(Tag.KIND) == RunKind.SEEDS else None


def restore_group(store: RunStore, run: RecordedRun) -> SeedGroup:
    """Return an interrupted group with its results, and the runs that are to be continued.

    Raises:
      ArgumentError: If all its seeds are trained.
      CheckpointError: If nothing tells what it was to train.
    """
    children = store.runs(where=f"tags.`{Tag.PARENT}` = '{run.id}'")
    config = _config(store, [run, *children])
    seeds = [int(seed) for seed in run.tags[Tag.SEED].split(",")]
    record = GroupRecord(store.location.uri, continues=run.id)
    group = SeedGroup(config, run.name, seeds, record)
    for child in children:  # the latest first
        seed = int(child.params[SEED])
        is_known = seed in group.unfinished or seed in {each.seed for each in group.results}
        if seed not in seeds or is_known:
            continue
        if child.status == RunStatus.FINISHED and Metric.LATE_IQM in child.metrics:
            curve = store.history(child, Metric.EVAL_MEAN)
            group.add(SeedResult.from_record(child, curve))
        elif Artifact.CONFIG in store.artifacts(child) or _has_outbox(store, child):
            group.unfinished[seed] = child.id
    if len(group.results) == len(seeds):
        raise ArgumentError("run", run.name, f"all {len(seeds)} seeds of the group are trained")
    return group


def _has_outbox(store: RunStore, run: RecordedRun) -> bool:
    return next(folders_of_run(store.location.home, run.id), None) is not None


def _config(store: RunStore, runs: list[RecordedRun]) -> Config:
    """Return the configuration of the group, which any of its runs may have recorded."""
    for run in runs:
        if Artifact.CONFIG in store.artifacts(run):
            with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
                path = store.fetch(run, Artifact.CONFIG, Path(scratch))
                text = path.read_text(encoding="utf-8")
            return loading.load_recorded(text, f"{Artifact.CONFIG} of {run.label}")
    raise CheckpointError(
        f"the group {runs[0].label} ended before its configuration was recorded: start it anew"
    )
