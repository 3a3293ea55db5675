"""What the machine's memory can hold."""

from __future__ import annotations

import os
from pathlib import Path

from dqnkit.errors import ConfigError


def machine_memory() -> int:
    """Bytes that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def process_memory() -> int:
    """Bytes of this process that are in memory; 0 where the system does not say (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_replay_fits_memory(max_length: int, needed: int) -> None:
    """Refuses a replay before it is allocated: memory that is not there is missed much later.

    Args:
      max_length: As configured, for the message.
      needed: Bytes of it.

    Raises:
      ConfigError: The machine has less memory than that.
    """
    memory = machine_memory()
    if needed > memory:
        raise ConfigError(
            f"replay.replay_buffer_max_length={max_length:,} needs {needed / 2**30:,.0f} GiB, "
            f"and this machine has {memory / 2**30:,.0f} GiB: keep fewer transitions"
        )
