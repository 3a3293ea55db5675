"""Memory of the machine and of this process."""

from __future__ import annotations

import os
from pathlib import Path

from dqnkit.errors import ConfigError


def machine_memory() -> int:
    """Return the size of the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def process_memory() -> int:
    """Return the resident set size of this process in bytes; 0 on systems other than Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_replay_fits_memory(max_length: int, needed: int) -> None:
    """Check the size of a replay before it is allocated.

    Linux grants memory that it does not have, and ends the process when the replay fills up.

    Args:
      max_length: Value of `replay.replay_buffer_max_length`, for the message.
      needed: Size of the full replay in bytes.

    Raises:
      ConfigError: If the machine has less memory than that.
    """
    memory = machine_memory()
    if needed > memory:
        # Half of the memory is left to everything else.
        fitting = int(float(f"{max_length * memory / needed / 2:.1g}"))
        raise ConfigError(
            f"replay.replay_buffer_max_length={max_length:,} needs {needed / 2**30:,.0f} GiB, "
            f"and this machine has {memory / 2**30:,.0f} GiB: keep fewer transitions, such as "
            f"{fitting:,}, or make images smaller by gymnasium.wrappers.ResizeObservation or "
            "GrayscaleObservation in env.wrappers"
        )
