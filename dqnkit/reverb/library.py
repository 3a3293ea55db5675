"""Import of Reverb; other modules use `from dqnkit.reverb.library import reverb`."""

from __future__ import annotations

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import tf  # configures TensorFlow before Reverb loads it

with quiet_stderr():
    import reverb
    from reverb.platform.checkpointers_lib import DefaultCheckpointer

__all__ = ["DefaultCheckpointer", "reverb", "tf"]
