"""The one place that imports Reverb: `from dqnkit.reverb.library import reverb`."""

from __future__ import annotations

from dqnkit._system.stderr import quiet
from dqnkit._system.tensorflow import tf  # prepares TensorFlow, which Reverb loads

with quiet():
    import reverb
    from reverb.platform.checkpointers_lib import DefaultCheckpointer

__all__ = ["DefaultCheckpointer", "reverb", "tf"]
