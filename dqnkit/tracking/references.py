"""References to runs and policies: the forms that a user may give, and what each refers to."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dqnkit._system.text import one_line
from dqnkit.errors import ArgumentError, ConfigError, TrackingError
from dqnkit.tracking.client import quoted, wrap_store_errors
from dqnkit.tracking.names import Artifact, Metric, RunKind
from dqnkit.tracking.outbox import folders_of_run
from dqnkit.tracking.policy_folder import MODEL, PolicyFolder, open_folder
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.store import RunFilter, RunStore, highest_first, with_metric

FORMS = (
    "a run's id or the start of one, a run's name, latest, latest:EXPERIMENT, best, "
    "best:EXPERIMENT, models:/NAME@ALIAS or models:/NAME/VERSION"
)
"""Forms of a reference to a run; a policy may also be given by its folder."""
_MODEL = re.compile(r"models:/+(?P<name>[^@/]+)(@(?P<alias>[^@/]+)|/(?P<version>\d+))/?")
_PARENTS = (RunKind.STUDY, RunKind.SEEDS, RunKind.TRIAL, RunKind.CONFIRMATION, RunKind.COMPARISON)
"""Kinds of runs that are not trainings."""
_CANDIDATES = 5
_LOOKED_THROUGH = 500
"""Number of latest runs that are searched for names similar to a wrong one."""


@dataclass(frozen=True)
class PolicySource:
    """The policy that a reference refers to."""

    reference: str
    folder: PolicyFolder
    run: RecordedRun | None
    """The run that trained it, if it is in the store."""

    @property
    def label(self) -> str:
        """Name of the run, or the reference itself."""
        return self.run.name if self.run else self.reference


def find_run(store: RunStore, reference: str) -> RecordedRun:
    """Return the run that a reference refers to.

    Raises:
      ConfigError: If it refers to no run or to several; the message lists the nearest.
    """
    kind, _, experiment = reference.partition(":")
    if kind == "latest":
        return _latest(store, experiment or None)
    if kind == "best":
        return _best(store, experiment or None)
    model = _MODEL.fullmatch(reference)
    if model:
        _, _, run = _model_version(store, model)
        if run is None:
            raise ConfigError(f"{reference!r}: the run that made this model is not in the store")
        return run
    if reference.startswith("models:"):
        raise ConfigError(f"{reference!r}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    return _by_id_or_name(store, reference)


def find_any(store: RunStore, reference: str) -> RecordedRun:
    """Return the run that a reference refers to, of any kind; a training if there is one.

    Raises:
      ConfigError: If it refers to no run or to several; the message lists the nearest.
    """
    try:
        return find_run(store, reference)
    except ConfigError:
        parent = _find_parent(store, reference)
        if parent is None:
            raise
        return parent


def _find_parent(store: RunStore, reference: str) -> RecordedRun | None:
    """Return the one parent of other runs, or comparison, with a name or the start of an id."""
    if "'" in reference and '"' in reference:  # not expressible in MLflow's syntax
        return None
    conditions = [f"attributes.run_name = {quoted(reference)}"]
    if re.fullmatch(r"[0-9a-f]{1,32}", reference):
        conditions.append(f"attributes.run_id LIKE '{reference}%'")
    for where in conditions:
        found = [
            run
            for kind in _PARENTS
            for run in store.runs(RunFilter(kind=kind), where=where, limit=2)
        ]
        if len(found) == 1:
            return found[0]
    return None


def find_study(store: RunStore, name: str) -> RecordedRun:
    """Return the run of a study.

    Raises:
      ArgumentError: If there is none; the message lists the nearest.
    """
    found = store.runs(RunFilter(study=name, kind=RunKind.STUDY), limit=1)
    if found:
        return found[0]
    studies = store.runs(RunFilter(kind=RunKind.STUDY), limit=_LOOKED_THROUGH)
    known = list(dict.fromkeys(run.name for run in studies))
    near = difflib.get_close_matches(name, known, n=_CANDIDATES, cutoff=0.4)
    if near:
        hint = f"nearest: {', '.join(near)}"
    elif known:
        hint = f"the latest: {', '.join(known[:_CANDIDATES])}"
    else:
        hint = "`dqnkit tune` makes one"
    raise ArgumentError("study", name, f"there is no such study in {store.location.name}; {hint}")


def find_policy(store: RunStore | None, reference: str, scratch: Path) -> PolicySource:
    """Return the policy that a reference refers to, with its files on this machine.

    Args:
      store: The store; None if there is none, which allows only a policy's folder.
      reference: One of `FORMS`, or a policy's folder, for which the store is not opened.
      scratch: Folder for downloads.

    Raises:
      ConfigError: If the reference refers to no run or to several, or the run has no policy.
      PolicyError: If files of the policy are missing.
      TrackingError: If they cannot be read.
    """
    if _is_path(reference):
        return PolicySource(reference, open_folder(_policy_folder(Path(reference))), None)
    if store is None:
        raise ArgumentError(
            "tracking_uri", None, f"the run {reference!r} is in a store; give its URI"
        )
    model = _MODEL.fullmatch(reference)
    if model:
        name, version, run = _model_version(store, model)
        return PolicySource(reference, open_folder(store.fetch_model(name, version, scratch)), run)
    run = find_run(store, reference)
    _check_not_pending(store, run)
    if Artifact.POLICY not in store.artifacts(run):
        raise ConfigError(
            f"{reference!r}: the run {run.label} is {run.status} and has no policy, which is "
            f"written when training ends{_others(store, run)}; choose a finished run"
        )
    return PolicySource(reference, open_folder(store.fetch(run, Artifact.POLICY, scratch)), run)


def _check_not_pending(store: RunStore, run: RecordedRun) -> None:
    """Check that the policy does not wait on this machine for the store.

    Raises:
      TrackingError: If it does.
    """
    for folder in folders_of_run(store.location.home, run.id):
        if any(folder.glob(f"files/*/{Artifact.POLICY}")):
            raise TrackingError(
                f"the policy of the run {run.label} waits in {folder}, because the store has not "
                f"taken it yet: `{store.location.command_line('sync')}` sends it"
            )


def _is_path(reference: str) -> bool:
    """Return whether a reference is a path; names of runs may contain slashes too."""
    if reference in {".", ".."} or reference.startswith(("/", "./", "../", "~")):
        return True
    with contextlib.suppress(OSError):  # too long for a path
        return ("/" in reference and Path(reference).is_dir()) or _is_policy(Path(reference))
    return False


def _is_policy(path: Path) -> bool:
    return (path / MODEL).is_file()


def _policy_folder(path: Path) -> Path:
    """Return the path itself, or the policy below it if it is the folder of a run's artifacts."""
    try:
        path = path.expanduser()
        found = path.is_dir()
    except (OSError, RuntimeError):  # too long, or ~ of an unknown user
        found = False
    if not found:
        raise ConfigError(f"{str(path)!r}: no such folder; give the folder of a policy, or {FORMS}")
    if _is_policy(path):
        return path
    if (path / Artifact.POLICY).is_dir():  # a run's artifacts
        return path / Artifact.POLICY
    raise ConfigError(
        f"{str(path)!r} is not a policy of dqnkit: it does not contain {MODEL}; give the folder "
        f"of a policy, or {FORMS}"
    )


def _latest(store: RunStore, experiment: str | None) -> RecordedRun:
    runs = store.runs(RunFilter(experiment=experiment), limit=1)
    if not runs:
        raise _no_runs(store, experiment)
    return runs[0]


def _best(store: RunStore, experiment: str | None) -> RecordedRun:
    """Return the run with the highest score, if all runs are of one environment."""
    scored = with_metric(Metric.FINAL_IQM)
    chosen = RunFilter(experiment=experiment)
    runs = store.runs(chosen, where=scored, order_by=highest_first(Metric.FINAL_IQM), limit=1)
    if not runs:
        if store.runs(chosen, limit=1):
            raise ConfigError(
                f"best: no run {_within(experiment)}has a score ({Metric.FINAL_IQM}) yet; "
                "it is known when training ends"
            )
        raise _no_runs(store, experiment)
    foreign = f"{scored} AND params.`env.id` != {quoted(runs[0].env)}"
    if store.runs(chosen, where=foreign, limit=1):
        some = store.runs(chosen, where=scored, limit=_LOOKED_THROUGH)
        environments = {run.env for run in [*runs, *some]}
        names = sorted({run.experiment for run in [*runs, *some]})
        advice = (
            "name the run"
            if experiment
            else "give " + " or ".join(f"best:{name}" for name in names[:_CANDIDATES])
        )
        raise ConfigError(
            f"best: the runs {_within(experiment)}are of {', '.join(sorted(environments))}, whose "
            f"scores are not comparable; {advice}"
        )
    return runs[0]


def _by_id_or_name(store: RunStore, reference: str) -> RecordedRun:
    if re.fullmatch(r"[0-9a-f]{32}", reference):
        run = store.run(reference)
        if run is not None:
            return run
    if "'" in reference and '"' in reference:  # not expressible in MLflow's syntax
        found = [run for run in store.runs() if run.name == reference]
    else:
        found = store.runs(where=f"attributes.run_name = {quoted(reference)}")
    if re.fullmatch(r"[0-9a-f]{1,31}", reference):
        named = {run.id for run in found}
        begun = store.runs(where=f"attributes.run_id LIKE '{reference}%'")
        found += [run for run in begun if run.id not in named]
    if len(found) > 1:
        raise ConfigError(
            f"{reference!r} matches {len(found)} runs: {_listed(found)}; give more of the id"
        )
    if not found:
        raise _unknown(store, reference)
    return found[0]


def _unknown(store: RunStore, reference: str) -> ConfigError:
    runs = store.runs(limit=_LOOKED_THROUGH)
    if not runs:
        return _no_runs(store, None)
    by_text = {text: run for run in reversed(runs) for text in (run.name, run.id)}
    near = difflib.get_close_matches(reference, by_text, n=_CANDIDATES, cutoff=0.5)
    candidates = [run for run in runs if run.name.startswith(reference)]
    candidates += [by_text[text] for text in near]
    hint = f"{'nearest' if candidates else 'the latest'}: {_listed(candidates or runs)}"
    return ConfigError(
        f"there is no run {reference!r} in {store.location.name}; {hint}. Give {FORMS}"
    )


def _no_runs(store: RunStore, experiment: str | None) -> ConfigError:
    return ConfigError(
        f"there are no runs {_within(experiment)}in {store.location.name} yet: "
        "`dqnkit train` makes one; `tracking_uri` chooses another store"
    )


def _others(store: RunStore, run: RecordedRun) -> str:
    ended = store.runs(
        RunFilter(run.experiment), where=with_metric(Metric.FINAL_IQM), limit=_CANDIDATES
    )
    return f"; runs of {run.experiment} that have one: {_listed(ended)}" if ended else ""


def _model_version(store: RunStore, model: re.Match[str]) -> tuple[str, str, RecordedRun | None]:
    """Return name, version and run of a registered model."""
    if store.location.is_empty:
        raise _no_runs(store, None)
    from mlflow.exceptions import MlflowException  # takes seconds to import

    name = model["name"]
    with wrap_store_errors(store.location):
        try:
            version = (
                store.client.get_model_version_by_alias(name, model["alias"])
                if model["alias"]
                else store.client.get_model_version(name, model["version"])
            )
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            raise _unknown_model(store, model.string, error) from error
    return name, str(version.version), store.run(version.run_id) if version.run_id else None


def _unknown_model(store: RunStore, reference: str, error: Any) -> ConfigError:
    known = [each.name for each in store.client.search_registered_models(max_results=50)]
    return ConfigError(
        f"{reference!r}: {one_line(error.message)}; registered models: {', '.join(known) or 'none'}"
    )


def _within(experiment: str | None) -> str:
    return f"of the experiment {experiment!r} " if experiment else ""


def _listed(runs: Iterable[RecordedRun]) -> str:
    labels = list(dict.fromkeys(run.label for run in runs))
    more = f" and {len(labels) - _CANDIDATES} more" if len(labels) > _CANDIDATES else ""
    return ", ".join(labels[:_CANDIDATES]) + more
