"""The one place that imports Reverb: `from dqnkit.reverb.library import reverb`."""

from __future__ import annotations

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import tf  # prepares TensorFlow, which Reverb loads

with quiet_stderr():
    import reverb
    from reverb.platform.checkpointers_lib import DefaultCheckpointer

__all__ = ["DefaultCheckpointer", "reverb", "tf"]
