"""The one place that imports Reverb: `from dqnkit.replay.reverb.library import reverb`."""

from __future__ import annotations

from dqnkit.noise import quiet
from dqnkit.runtime import tf  # prepares TensorFlow, which Reverb loads

with quiet():
    import reverb
    from reverb.platform.checkpointers_lib import DefaultCheckpointer

__all__ = ["DefaultCheckpointer", "reverb", "tf"]
