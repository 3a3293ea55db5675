"""Pages of MLflow's UI that show what a user asks for with no click."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from dqnkit._system.text import one_line
from dqnkit.errors import ConfigError
from dqnkit.evaluation.formatting import format_interval
from dqnkit.tracking.client import quoted
from dqnkit.tracking.location import experiment_url
from dqnkit.tracking.names import POOLED_BAND, SEARCH, Metric, RunKind, Tag
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_any, find_study
from dqnkit.tracking.store import RunFilter, RunStore, highest_first, with_metric
from dqnkit.tracking.views import (
    Chart,
    View,
    bars,
    lines,
    parallel,
    scatter,
    view_page,
    view_tag,
)

_BEST_CURVES = 10
"""Number of learning curves in the view of a study."""
_SHOWN = 20
"""Number of runs in the charts of an experiment."""
_LOOKED_AT = 100
"""Number of latest runs whose parameters are compared."""
_MAX_COLUMNS = 6
"""Number of parameters in a table."""
_MAX_SCATTERS = 4
_MIN_VERSION = (3, 15)
"""First version of MLflow whose UI opens saved views; older ones fail at such links."""
_LINKED = 5
"""Number of studies that the description of an experiment links to."""
_BY_DQNKIT = ". Described by dqnkit."
"""End of the descriptions that dqnkit may replace."""
_UNINTERESTING = {"training.seed", "description", "name"}


class Page(NamedTuple):
    """A page of the UI."""

    path: str
    """Path on the server, with its query."""
    problem: str = ""
    """Why it is not the view that was asked for, if it is not."""


def find_page(
    store: RunStore,
    run: str | None = None,
    *,
    study: str | None = None,
    experiment: str | None = None,
) -> Page:
    """Return a page, with its view saved in the store; at most one thing is asked for.

    Args:
      store: The store.
      run: Reference to a run, or name or id of a group of seeds, a study or a comparison.
      study: Name of a study.
      experiment: Name of an experiment. Without any, the latest run decides.

    Raises:
      ConfigError: If it does not exist.
      TrackingError: If the store cannot be read.
    """
    if study is not None:
        return _study_page(store, find_study(store, study))
    if experiment is not None:
        return _trainings_page(store, experiment)
    if run is not None:
        return _run_page(store, find_any(store, run))
    latest = store.runs(limit=1)
    if not latest:
        return Page("/")
    within = latest[0].tags.get(Tag.STUDY)
    studies = store.runs(RunFilter(study=within, kind=RunKind.STUDY), limit=1) if within else []
    return (
        _study_page(store, studies[0]) if studies else _trainings_page(store, latest[0].experiment)
    )


def _run_page(store: RunStore, run: RecordedRun) -> Page:
    kind = run.tags.get(Tag.KIND)
    if kind == RunKind.STUDY:
        return _study_page(store, run)
    if kind == RunKind.COMPARISON:
        ids = run.tags.get(Tag.COMPARED_RUNS, "").split(",")
        compared = [found for found in map(store.run, filter(None, ids)) if found is not None]
        if len({each.experiment for each in compared}) == 1:  # a view shows one experiment
            return _saved(store, compared[0], _group_view(f"comparison {run.name}", compared))
    if kind in {RunKind.SEEDS, RunKind.TRIAL, RunKind.CONFIRMATION}:
        below = store.runs(where=f"tags.`{Tag.PARENT}` = {quoted(run.id)}")
        return _saved(store, run, _group_view(f"seeds of {run.name}", [run, *below]))
    return Page(f"/#/experiments/{_experiment_id(store, run.experiment)}/runs/{run.id}")


def _study_page(store: RunStore, study: RecordedRun) -> Page:
    trials = store.runs(RunFilter(study=study.name, kind=_trial_kind(study)), limit=_LOOKED_AT)
    return _saved(store, study, study_view(study, trials))


def _trainings_page(store: RunStore, experiment: str) -> Page:
    criteria = RunFilter(experiment=experiment)
    runs = store.runs(criteria, limit=_LOOKED_AT)
    if not runs:
        raise ConfigError(
            f"the experiment {experiment!r} in {store.location.name} has no trainings; `dqnkit "
            "runs` lists those of all experiments"
        )
    return _saved(store, runs[0], _trainings_view(experiment, runs))


# -- Views


def study_view(study: RecordedRun, trials: Sequence[RecordedRun]) -> View:
    """Return the view of a study's trials: the searched keys against the value, and the best.

    Args:
      study: Run of the study.
      trials: Runs of some of its trials.
    """
    keys = searched_keys(study)
    axes = list(dict.fromkeys(name for run in trials for name in run.metrics))
    # Ranges in the logarithm first: the learning rate is what most searches are about.
    axes = sorted(filter(_is_axis, axes), key=lambda axis: ("log10_" not in axis, axis))
    # Keys without a number: choices of words, and all keys of studies by earlier versions.
    words = [key for key in keys if not any(_is_key_of(key, axis) for axis in axes)]
    scatters = [scatter(_against(axis), axis, Metric.LATE_IQM) for axis in axes]
    scatters += [scatter(_against(key), key, Metric.LATE_IQM, is_param=True) for key in words]
    charts = [
        *scatters[:_MAX_SCATTERS],
        parallel("searched keys and value", words, [*axes, Metric.LATE_IQM]),
        lines("learning curves of the best", [Metric.EVAL_MEAN], _BEST_CURVES),
    ]
    kind = _trial_kind(study)
    return View(
        name=_study_name(study.name),
        where=f"tags.`{Tag.STUDY}` = {quoted(study.name)} AND tags.`{Tag.KIND}` = '{kind}'",
        order_by=_metric(Metric.LATE_IQM),
        columns=[
            _metric(Metric.LATE_IQM),
            _metric(Metric.FINAL_IQM),
            *map(_param, keys),
            _tag(Tag.TRIAL_STATE),
        ],
        charts=charts,
    )


def _trainings_view(experiment: str, runs: Sequence[RecordedRun]) -> View:
    charts = [
        lines("learning curves of the best", [Metric.EVAL_MEAN], _SHOWN),
        bars("score: IQM of the best policy", Metric.FINAL_IQM, _SHOWN),
        bars("IQM of the last evaluations", Metric.LATE_IQM, _SHOWN),
    ]
    return View(
        name=_trainings_name(experiment),
        where=f"tags.`{Tag.KIND}` = '{RunKind.TRAINING}'",
        order_by=_metric(Metric.FINAL_IQM),
        columns=_columns(runs),
        charts=charts,
    )


def _group_view(name: str, runs: Sequence[RecordedRun]) -> View:
    ids = ", ".join(f"'{run.id}'" for run in runs[:_LOOKED_AT])
    charts: list[Chart] = [
        lines("learning curves", [Metric.EVAL_MEAN], _LOOKED_AT),
        lines("IQM over seeds with its 95 % interval", POOLED_BAND, _LOOKED_AT),
        bars("IQM of the last evaluations", Metric.LATE_IQM, _LOOKED_AT),
        bars("score: IQM of the best policy", Metric.FINAL_IQM, _LOOKED_AT),
    ]
    return View(
        name=name,
        where=f"attributes.run_id IN ({ids})",
        order_by=_metric(Metric.LATE_IQM),
        columns=_columns(runs),
        charts=charts,
    )


def _columns(runs: Sequence[RecordedRun]) -> list[str]:
    differing = differing_params(runs)[:_MAX_COLUMNS]
    return [
        _metric(Metric.FINAL_IQM),
        _metric(Metric.LATE_IQM),
        _param("training.seed"),
        *map(_param, differing),
    ]


# -- Saving


def _saved(store: RunStore, run: RecordedRun, view: View) -> Page:
    """Save a view in the experiment of a run; return its page, or one that needs no view."""
    experiment_id = _experiment_id(store, run.experiment)
    instead = "the page shows the charts of the experiment"
    try:
        if not _opens_views(store):
            version = ".".join(map(str, _MIN_VERSION))
            problem = (
                f"the server's MLflow is older than {version}, which opens no views: {instead}"
            )
            return Page(experiment_url(experiment_id), problem)
        view.save(store.client, experiment_id)
    except Exception as error:  # a store may be read-only
        problem = f"the view {view.name!r} cannot be saved: {instead} ({one_line(error)})"
        return Page(experiment_url(experiment_id), problem)
    with contextlib.suppress(Exception):  # a description is no reason to open nothing
        _introduce(store, run.experiment, experiment_id)
    return Page(view.page(experiment_id))


def _introduce(store: RunStore, experiment: str, experiment_id: str) -> None:
    """Describe an experiment by its best score, with links to its views.

    A description by somebody else stays as it is.
    """
    tags = store.client.get_experiment(experiment_id).tags
    if not tags.get(Tag.NOTE, _BY_DQNKIT).endswith(_BY_DQNKIT):
        return
    criteria = RunFilter(experiment=experiment)
    scored = with_metric(Metric.FINAL_IQM)
    best = store.runs(criteria, where=scored, order_by=highest_first(Metric.FINAL_IQM), limit=1)
    runs = best or store.runs(criteria, limit=1)
    parts = [runs[0].env] if runs else []
    if best:
        values = map(best[0].metrics.get, (Metric.FINAL_IQM, Metric.FINAL_LOW, Metric.FINAL_HIGH))
        parts.append(f"best policy {format_interval(*values)} by {best[0].name}")
    studies = store.runs(RunFilter(experiment=experiment, kind=RunKind.STUDY), limit=_LINKED)
    views = [(_trainings_name(experiment), "trainings")]
    views += [(_study_name(each.name), f"study {each.name}") for each in studies]
    links = [
        f"[{label}]({view_page(experiment_id, name).removeprefix('/')})"
        for name, label in views
        if view_tag(name) in tags
    ]
    text = ". ".join([": ".join(parts), ", ".join(links)]) if links else ": ".join(parts)
    store.client.set_experiment_tag(experiment_id, Tag.NOTE, f"{text}{_BY_DQNKIT}")


def _opens_views(store: RunStore) -> bool:
    """Return whether the UI on a store opens saved views: ours does, an old server's does not."""
    if store.location.address is None:
        return True
    from mlflow.tracking._tracking_service import utils  # no public module knows credentials
    from mlflow.utils import rest_utils

    untyped: Any = utils, rest_utils
    credentials = untyped[0]._get_store(store.location.uri).get_host_creds()
    answer = untyped[1].http_request(credentials, "/version", "GET", timeout=5, max_retries=0)
    version = tuple(map(int, answer.text.split(".")[:2]))
    return bool(answer.status_code == 200 and version >= _MIN_VERSION)


def _experiment_id(store: RunStore, name: str) -> str:
    return store.experiment_ids(name)[0]


# -- What distinguishes runs


def searched_keys(study: RecordedRun) -> list[str]:
    """Return the configuration keys that a study searches, in the order of their names."""
    return sorted(key.removeprefix("search.") for key in study.params if key.startswith("search."))


def _is_axis(metric: str) -> bool:
    """Return whether a metric of a trial is a searched key as a number (`Space.axes`)."""
    return metric.startswith(f"{SEARCH}/")


def _is_key_of(key: str, axis: str) -> bool:
    """Return whether a metric is the number of a searched key."""
    label = axis.removeprefix(f"{SEARCH}/").removeprefix("log10_")
    label = label.removesuffix(".layers").removesuffix(".units")
    return key == label or key.endswith(f".{label}")


def differing_params(runs: Sequence[RecordedRun]) -> list[str]:
    """Return the parameters in which runs differ, without their seed and their names."""
    keys = dict.fromkeys(key for run in runs for key in run.params)
    return [
        key
        for key in keys
        if key not in _UNINTERESTING and len({run.params.get(key) for run in runs}) > 1
    ]


def _trial_kind(study: RecordedRun) -> RunKind:
    several = study.params.get("tune.seeds_per_trial", "1") != "1"
    return RunKind.TRIAL if several else RunKind.TRAINING


def _against(name: str) -> str:
    return f"{name.removeprefix(f'{SEARCH}/')} against the value"


def _study_name(study: str) -> str:
    return f"study {study}"


def _trainings_name(experiment: str) -> str:
    return f"trainings of {experiment}"


# -- Columns as the UI names them


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _param(name: str) -> str:
    return f"params.`{name}`"


def _tag(name: str) -> str:
    return f"tags.`{name}`"
