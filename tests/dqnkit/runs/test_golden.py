"""Five short runs whose losses and returns must not change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dqnkit.config.sections import Config
from dqnkit.runs.trainer import train
from tests.arithmetic import recorded_arithmetic
from tests.events import Events

GOLDEN: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("golden.json").read_text(encoding="utf-8")
)
"""Numbers of an earlier version of dqnkit, by the name of the run."""


@recorded_arithmetic
@pytest.mark.parametrize("name", GOLDEN)
def test_losses_and_returns_are_those_of_earlier_versions(
    small: Callable[..., Config], name: str
) -> None:
    """The comparison is exact, because a seed promises the same curve, bit for bit.

    Anything that changes the order of random draws, the arithmetic of the update or the episodes
    changes the last digits first, long before a tolerance would notice, and it breaks the
    resumption of runs whose checkpoints an earlier version wrote.
    """
    golden, events = GOLDEN[name], Events()
    config = small("training.loop=auto", *golden["assignments"])
    result = train(config, tracking_uri=None, listener=events)
    assert events.losses == golden["losses"]
    assert [list(each.returns) for each in result.evaluations] == golden["returns"]
    assert list(result.final.returns) == golden["final"]
    assert result.env_steps == golden["env_steps"]
