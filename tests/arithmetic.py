"""Condition under which numbers can be compared to the last bit with recorded ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqnkit._system.tensorflow import tf


def _has_fma() -> bool:
    try:
        return " fma " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


recorded_arithmetic = pytest.mark.skipif(
    not tf.__version__.startswith("2.21.") or not _has_fma(),
    reason="the numbers were recorded with TensorFlow 2.21 on an x86 CPU with FMA instructions; "
    "other versions and CPUs round differently",
)
"""Skips a test where TensorFlow or the CPU round differently than where numbers were recorded."""
