"""The version of Gymnasium, which the package of an environment may hold back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata

from dqnkit.errors import UnsupportedEnvironmentError

NEEDED = (1, 2)
"""Oldest version that works, as in `pyproject.toml`."""


def check_version() -> None:
    """Check that Gymnasium is new enough, before an import of it fails for a missing name.

    Raises:
      UnsupportedEnvironmentError: If it is older than `NEEDED`.
    """
    installed = metadata.version("gymnasium")
    if tuple(map(int, re.findall(r"\d+", installed)[:2])) >= NEEDED:
        return
    needed = ".".join(map(str, NEEDED))
    holders = ", ".join(_holders(installed, needed)) or "a package that is no longer installed"
    raise UnsupportedEnvironmentError(
        f"gymnasium {installed} is installed, and dqnkit needs {needed} or newer; the old version "
        f"is asked for by {holders}: take a newer version of it, or copy its environment into a "
        "module of your own"
    )


def _holders(installed: str, needed: str) -> Iterator[str]:
    """Yield the packages that allow the installed version, but not the one that is needed."""
    from packaging.requirements import InvalidRequirement, Requirement  # takes time to load

    for distribution in metadata.distributions():
        for text in distribution.requires or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            allows = requirement.specifier.contains
            if requirement.name == "gymnasium" and not allows(needed) and allows(installed):
                yield f"{distribution.name} {distribution.version} ({requirement})"
