"""Listing recorded runs."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence

from dqnkit.errors import ArgumentError
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tracking.names import Metric
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_study
from dqnkit.tracking.store import RunFilter, RunStore, highest_first, with_metric

_CANDIDATES = 5
_USUAL = (Metric.FINAL_IQM, Metric.LATE_IQM, Metric.EVAL_MEAN, Metric.BEST_MEAN)
"""Metrics that most users sort by."""


def list_runs(
    *,
    experiment: str | None = None,
    status: str | None = None,
    study: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    tracking_uri: str | None = AUTO,
) -> list[RecordedRun]:
    """Return runs of training; an empty store has none.

    Args:
      experiment: Name of the experiment.
      status: MLflow's status: RUNNING, FINISHED, FAILED or KILLED.
      study: Name of the study of which the runs are trials.
      sort: Name of a metric, such as `final/return_iqm`: the highest value first, without the runs
        that lack it. None gives the latest run first.
      limit: Maximum number of runs.
      tracking_uri: URI of the store (`dqnkit.tracking.location.locate_store`).

    Raises:
      ConfigError: If there is no such experiment or study, or no run has the metric.
      TrackingError: If the store cannot be read.
    """
    if limit is not None and limit < 1:
        raise ArgumentError("limit", limit, "expected a number from 1 upwards")
    store = RunStore(locate_store(tracking_uri))
    criteria = RunFilter(experiment, status, study)
    is_known = study is None or store.location.is_empty
    if study is not None and not is_known and not store.runs(RunFilter(study=study), limit=1):
        find_study(store, study)  # raises unless it has no trials yet
    if sort is None:
        return store.runs(criteria, limit=limit)
    runs: list[RecordedRun] = []
    if re.fullmatch(r"[\w./ -]+", sort):  # characters that MLflow allows in metrics
        order = highest_first(sort)
        # MLflow counts NaN, the last in this order, as a value; it stands for a missing one.
        found = store.runs(criteria, where=with_metric(sort), order_by=order, limit=limit)
        runs = [run for run in found if not math.isnan(run.metrics[sort])]
    if not runs:
        known = sorted({metric for run in store.runs(criteria) for metric in run.metrics})
        if known:
            raise ArgumentError("sort", sort, f"no run has this metric; {_nearest(sort, known)}")
    return runs


def _nearest(metric: str, known: Sequence[str]) -> str:
    """Return a clause on the metrics that are similar to one that no run has."""
    containing = [each for each in known if metric.lower() in each.lower()]
    similar = difflib.get_close_matches(metric, known, n=_CANDIDATES, cutoff=0.4)
    nearest = list(dict.fromkeys([*containing, *similar]))[:_CANDIDATES]
    if nearest:
        return f"the nearest are {', '.join(nearest)}"
    first = sorted(known, key=lambda each: each not in _USUAL)[:_CANDIDATES]
    more = f" and {len(known) - len(first)} more" if len(known) > len(first) else ""
    return f"there are {', '.join(first)}{more}"
