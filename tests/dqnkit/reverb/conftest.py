"""Tests of `dqnkit.reverb`; the default environment does not have Reverb (docs/reverb.md)."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("reverb") else ["test_*.py"]
