"""What the machine's memory can hold."""

from __future__ import annotations

import os

from dqnkit.errors import ConfigError


def refuse_replay_beyond_memory(max_length: int, needed: int) -> None:
    """Refuses a replay before it is allocated: memory that is not there is missed much later.

    Args:
      max_length: As configured, for the message.
      needed: Bytes of it.

    Raises:
      ConfigError: The machine has less memory than that.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ConfigError(
            f"replay.replay_buffer_max_length={max_length:,} needs {needed / 2**30:,.0f} GiB, "
            f"and this machine has {memory / 2**30:,.0f} GiB: keep fewer transitions"
        )
