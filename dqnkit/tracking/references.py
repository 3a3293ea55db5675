"""RUN, wherever a run is named: what it may be, and the run or policy that it means."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dqnkit.errors import ConfigError
from dqnkit.tracking.client import explained, quoted
from dqnkit.tracking.policy_folder import MODEL, PolicyFolder, open_folder
from dqnkit.tracking.recorded_run import SCORE, RecordedRun
from dqnkit.tracking.store import RunFilter, RunStore, highest, with_metric

FORMS = (
    "a run's id or the start of one, a run's name, latest, latest:EXPERIMENT, best, "
    "best:EXPERIMENT, models:/NAME@ALIAS or models:/NAME/VERSION"
)
"""What means a run; a policy may also be given by its folder."""
_MODEL = re.compile(r"models:/+(?P<name>[^@/]+)(@(?P<alias>[^@/]+)|/(?P<version>\d+))/?")
_CANDIDATES = 5
_LOOKED_THROUGH = 500
"""Runs among which the nearest to a wrong name are looked for, the latest."""


@dataclass(frozen=True)
class PolicySource:
    """A policy that a reference means."""

    reference: str
    folder: PolicyFolder
    run: RecordedRun | None
    """The run that trained it, if the store has it."""

    @property
    def label(self) -> str:
        """The run's name, or what it was asked for by."""
        return self.run.name if self.run else self.reference


def find_run(reader: RunStore, reference: str) -> RecordedRun:
    """The run that a reference means.

    Raises:
      ConfigError: It means none, or more than one; the message lists the nearest.
    """
    kind, _, experiment = reference.partition(":")
    if kind == "latest":
        return _latest(reader, experiment or None)
    if kind == "best":
        return _best(reader, experiment or None)
    model = _MODEL.fullmatch(reference)
    if model:
        _, _, run = _model_version(reader, model)
        if run is None:
            raise ConfigError(f"{reference!r}: the run that made this model is not in the store")
        return run
    if reference.startswith("models:"):
        raise ConfigError(f"{reference!r}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    return _by_id_or_name(reader, reference)


def find_policy(reader: RunStore, reference: str, scratch: Path) -> PolicySource:
    """The policy that a reference means, its files on this machine.

    Args:
      reader: Of the store, which a folder's path does not open.
      reference: See `FORMS`.
      scratch: A folder for what must be fetched.

    Raises:
      ConfigError: The reference means no run or more than one, or the run has no policy.
      PolicyError: The policy's files are not whole.
      TrackingError: They cannot be had.
    """
    if _is_path(reference):
        return PolicySource(reference, open_folder(_policy_folder(Path(reference))), None)
    model = _MODEL.fullmatch(reference)
    if model:
        name, version, run = _model_version(reader, model)
        return PolicySource(reference, open_folder(reader.fetch_model(name, version, scratch)), run)
    run = find_run(reader, reference)
    if "policy" not in reader.artifacts(run):
        raise ConfigError(
            f"{reference!r}: the run {run.label} is {run.status} and has no policy, which is "
            f"written when training ends{_others(reader, run)}; `dqnkit runs --status finished` "
            "lists what has one"
        )
    return PolicySource(reference, open_folder(reader.fetch(run, "policy", scratch)), run)


def _is_path(reference: str) -> bool:
    """What looks like a path, or is one: a run's name may have a slash in it."""
    if reference in {".", ".."} or reference.startswith(("/", "./", "../", "~")):
        return True
    with contextlib.suppress(OSError):  # too long for a path
        return ("/" in reference and Path(reference).is_dir()) or _is_policy(Path(reference))
    return False


def _is_policy(path: Path) -> bool:
    return (path / MODEL).is_file()


def _policy_folder(path: Path) -> Path:
    """The path itself, or the policy in it where it is a run's artifacts."""
    try:
        path = path.expanduser()
        found = path.is_dir()
    except (OSError, RuntimeError):  # too long, or ~ of a user who is not there
        found = False
    if not found:
        raise ConfigError(f"{str(path)!r}: there is no such folder; give a policy's, or {FORMS}")
    if _is_policy(path):
        return path
    if (path / "policy").is_dir():  # a run's artifacts
        return path / "policy"
    raise ConfigError(
        f"{str(path)!r}: is no policy of dqnkit, whose folder holds {MODEL}; give one, or {FORMS}"
    )


def _latest(reader: RunStore, experiment: str | None) -> RecordedRun:
    runs = reader.runs(RunFilter(experiment=experiment), limit=1)
    if not runs:
        raise _no_runs(reader, experiment)
    return runs[0]


def _best(reader: RunStore, experiment: str | None) -> RecordedRun:
    """The highest score; scores of different environments have nothing in common."""
    scored = with_metric(SCORE)
    chosen = RunFilter(experiment=experiment)
    runs = reader.runs(chosen, where=scored, order_by=highest(SCORE), limit=1)
    if not runs:
        if reader.runs(chosen, limit=1):
            raise ConfigError(
                f"best: no run {_within(experiment)}has a score ({SCORE}) yet; it is known when "
                "training ends"
            )
        raise _no_runs(reader, experiment)
    foreign = f"{scored} AND params.`env.id` != {quoted(runs[0].env)}"
    if reader.runs(chosen, where=foreign, limit=1):
        some = reader.runs(chosen, where=scored, limit=_LOOKED_THROUGH)
        environments = {run.env for run in [*runs, *some]}
        names = sorted({run.experiment for run in [*runs, *some]})
        advice = (
            "name the run"
            if experiment
            else "say " + " or ".join(f"best:{name}" for name in names[:_CANDIDATES])
        )
        raise ConfigError(
            f"best: the runs {_within(experiment)}are of {', '.join(sorted(environments))}, whose "
            f"scores cannot be compared; {advice}"
        )
    return runs[0]


def _by_id_or_name(reader: RunStore, reference: str) -> RecordedRun:
    if re.fullmatch(r"[0-9a-f]{32}", reference):
        run = reader.run(reference)
        if run is not None:
            return run
    if "'" in reference and '"' in reference:  # for which MLflow's syntax has no way
        found = [run for run in reader.runs() if run.name == reference]
    else:
        found = reader.runs(where=f"attributes.run_name = {quoted(reference)}")
    if re.fullmatch(r"[0-9a-f]{1,31}", reference):
        named = {run.id for run in found}
        begun = reader.runs(where=f"attributes.run_id LIKE '{reference}%'")
        found += [run for run in begun if run.id not in named]
    if len(found) > 1:
        raise ConfigError(
            f"{reference!r} means {len(found)} runs: {_listed(found)}; give more of the id"
        )
    if not found:
        raise _unknown(reader, reference)
    return found[0]


def _unknown(reader: RunStore, reference: str) -> ConfigError:
    runs = reader.runs(limit=_LOOKED_THROUGH)
    if not runs:
        return _no_runs(reader, None)
    by_text = {text: run for run in reversed(runs) for text in (run.name, run.id)}
    near = difflib.get_close_matches(reference, by_text, n=_CANDIDATES, cutoff=0.5)
    candidates = [run for run in runs if run.name.startswith(reference)]
    candidates += [by_text[text] for text in near]
    hint = f"{'nearest' if candidates else 'the latest'}: {_listed(candidates or runs)}"
    return ConfigError(f"there is no run {reference!r} in {reader.place}; {hint}. Give {FORMS}")


def _no_runs(reader: RunStore, experiment: str | None) -> ConfigError:
    return ConfigError(
        f"there are no runs {_within(experiment)}in {reader.place} yet: `dqnkit train` makes one, "
        "--tracking-uri names another store"
    )


def _others(reader: RunStore, run: RecordedRun) -> str:
    ended = reader.runs(RunFilter(run.experiment), where=with_metric(SCORE), limit=_CANDIDATES)
    return f"; runs of {run.experiment} that have one: {_listed(ended)}" if ended else ""


def _model_version(reader: RunStore, model: re.Match[str]) -> tuple[str, str, RecordedRun | None]:
    """Name, version and run of a registered model."""
    from mlflow.exceptions import MlflowException  # the client has loaded it

    if reader.store.is_empty:
        raise _no_runs(reader, None)
    name = model["name"]
    with explained(reader.store):
        try:
            version = (
                reader.client.get_model_version_by_alias(name, model["alias"])
                if model["alias"]
                else reader.client.get_model_version(name, model["version"])
            )
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            raise _unknown_model(reader, model.string, error) from error
    return name, str(version.version), reader.run(version.run_id) if version.run_id else None


def _unknown_model(reader: RunStore, reference: str, error: Any) -> ConfigError:
    known = [each.name for each in reader.client.search_registered_models(max_results=50)]
    return ConfigError(
        f"{reference!r}: {' '.join(str(error.message).split())}; registered models: "
        f"{', '.join(known) or 'none'}"
    )


def _within(experiment: str | None) -> str:
    return f"of the experiment {experiment!r} " if experiment else ""


def _listed(runs: Iterable[RecordedRun]) -> str:
    labels = list(dict.fromkeys(run.label for run in runs))
    more = f" and {len(labels) - _CANDIDATES} more" if len(labels) > _CANDIDATES else ""
    return ", ".join(labels[:_CANDIDATES]) + more
