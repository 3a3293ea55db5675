"""Runs as a list."""

from __future__ import annotations

import re

from dqnkit.errors import ConfigError
from dqnkit.tracking import location
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.store import ANY, RunFilter, RunStore, highest, with_metric


def list_runs(
    chosen: RunFilter = ANY,
    *,
    sort: str | None = None,
    limit: int | None = None,
    tracking_uri: str | None = None,
) -> list[RecordedRun]:
    """Runs of training; an empty store has none.

    Args:
      chosen: Which.
      sort: A metric, such as `final/return_iqm`: the highest first, runs without it left out. By
        default the latest come first.
      limit: The most that are given.
      tracking_uri: The store; see `dqnkit.tracking.location.resolve`.

    Raises:
      ConfigError: There is no such experiment, or no run has the metric.
      TrackingError: The store cannot be read.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: give a number from 1 upwards")
    reader = RunStore(location.locate_store(tracking_uri))
    if sort is None:
        return reader.runs(chosen, limit=limit)
    runs: list[RecordedRun] = []
    if re.fullmatch(r"[\w./ -]+", sort):  # as MLflow's metrics are called
        runs = reader.runs(
            chosen,
            where=with_metric(sort),
            order_by=highest(sort),
            limit=limit,
        )
    if not runs:
        known = sorted({metric for run in reader.runs(chosen) for metric in run.metrics})
        if known:
            raise ConfigError(f"--sort {sort}: no run has this metric; give {', '.join(known)}")
    return runs
