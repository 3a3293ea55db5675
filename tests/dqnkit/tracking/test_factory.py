from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError
from dqnkit.tracking.factory import make_tracker
from dqnkit.tracking.location import locate_optional_store, locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.tracker import NO_PARENT, ParentRun, Tracker

Small = Callable[..., Config]


@pytest.mark.parametrize(
    ("assignments", "uri"), [((), None), (("tracking.enabled=false",), "auto")]
)
def test_nothing_is_recorded_without_a_store_or_if_it_is_disabled(
    small: Small, assignments: tuple[str, ...], uri: str | None
) -> None:
    assert type(make_tracker(small(*assignments), locate_optional_store(uri))) is Tracker
    assert not list(Path.cwd().iterdir())


def test_a_tracker_is_made_for_the_store_of_a_uri(small: Small) -> None:
    tracker = make_tracker(small(), locate_store("here"), parent := ParentRun("above"))
    assert isinstance(tracker, MlflowTracker)
    assert tracker._location == locate_store("here")
    assert tracker._parent is parent
    assert Path("here/artifacts").is_dir()  # made at once, to know that it is writable
    default = make_tracker(small(), locate_store())
    assert isinstance(default, MlflowTracker)
    assert default._location == locate_store("mlruns")
    assert default._parent is NO_PARENT


def test_a_store_that_cannot_be_written_is_refused(small: Small) -> None:
    Path("file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        make_tracker(small(), locate_store("file"))
