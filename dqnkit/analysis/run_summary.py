"""Summary of one run: its configuration, scores and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dqnkit.config import loading
from dqnkit.config.fingerprint import IRRELEVANT
from dqnkit.errors import ConfigError, TrackingError
from dqnkit.tracking.location import AUTO, StoreLocation, locate_store
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import find_any
from dqnkit.tracking.store import RunStore


class Difference(NamedTuple):
    """A value of a run that its experiment does not have."""

    value: str
    usual: str
    """The value of the experiment."""


@dataclass(frozen=True)
class RunSummary:
    """A run with what distinguishes it."""

    run: RecordedRun
    preset: str
    """Experiment that the configuration is compared with."""
    differences: Mapping[str, Difference]
    """Values that differ from the experiment's, by configuration key."""
    files: tuple[str, ...]
    """Names at the top level of the run's artifacts; empty if they cannot be read."""
    location: StoreLocation
    problem: str = ""
    """Why the files are missing, if they are."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            **self.run.as_dict(),
            "preset": self.preset,
            "differences": {key: each._asdict() for key, each in self.differences.items()},
            "files": list(self.files),
            "problems": [self.problem] if self.problem else [],
        }


def summarize(run: str, *, tracking_uri: str | None = AUTO) -> RunSummary:
    """Return the summary of a run.

    Args:
      run: Reference to the run (`dqnkit.tracking.references.FORMS`), or name or id of a study, a
        group of seeds or a comparison.
      tracking_uri: URI of the store (`dqnkit.tracking.location.locate_store`).

    Raises:
      ConfigError: If it refers to no run or to several.
      TrackingError: If the store cannot be read.
    """
    store = RunStore(locate_store(tracking_uri))
    found = find_any(store, run)
    preset = _preset(found)
    problem = ""
    try:
        files = tuple(sorted(store.artifacts(found)))
    except TrackingError as error:
        files, problem = (), str(error)
    return RunSummary(
        found, preset, _differences(found.params, preset), files, store.location, problem
    )


def _preset(run: RecordedRun) -> str:
    """Return the committed experiment of a run: that of its name, or of its environment."""
    names = loading.experiment_names()
    if run.experiment in names:
        return run.experiment
    try:
        by_env = loading.load_for_environment(run.env).name
    except ConfigError:
        return ""
    return by_env if by_env in names else ""


def _differences(params: Mapping[str, str], preset: str) -> dict[str, Difference]:
    config = loading.load(preset) if preset else loading.default_config("defaults")
    usual = config.flat()
    # What the experiment leaves open is chosen for the environment, and no difference.
    open_keys = {key for key, value in usual.items() if value in (None, "auto")}
    return {
        key: Difference(params[key], str(value))
        for key, value in usual.items()
        if key in params
        and params[key] != str(value)
        and key not in open_keys
        and key not in IRRELEVANT
    }
