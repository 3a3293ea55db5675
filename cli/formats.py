"""Times, and who collects, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dqnkit.config.sections import Config

import time

from dqnkit.evaluation.formatting import NOTHING


def duration(seconds: float | None) -> str:
    """A length of time, in its two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ago(moment: float) -> str:
    """How long a moment is past, roughly."""
    seconds = max(0.0, time.time() - moment)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def collecting(config: Config) -> str:
    """Who steps the environments, in words."""
    actors = config.training.num_actors
    return f"{config.training.loop} loop" if actors is None else f"{actors or 'other'} actors"
