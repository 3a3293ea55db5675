"""Command lines that messages name."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def as_typed(command: str) -> str:
    """A command of ours as it must be typed here: through uv, or where it is installed."""
    if "UV" in os.environ:
        return f"uv run {command}"
    return command if shutil.which("dqnkit") else f"{Path(sys.executable).parent}/{command}"
