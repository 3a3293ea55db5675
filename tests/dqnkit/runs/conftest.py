"""Fixtures of the tests of runs."""

from __future__ import annotations

import pytest

from dqnkit.evaluation import plots
from dqnkit.runs.artifacts import RunArtifacts


@pytest.fixture
def _brief_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the learning curve and the saved policy, which take a second of each run."""
    monkeypatch.setattr(plots, "save_figure", lambda *_: None)
    monkeypatch.setattr(RunArtifacts, "add_policy", lambda *_: None)
