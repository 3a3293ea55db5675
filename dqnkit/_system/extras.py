"""Checks for the extra `reverb`, without importing it."""

from __future__ import annotations

from importlib import metadata

from dqnkit.errors import ConfigError

INSTALL_COMMAND = (
    "UV_PROJECT_ENVIRONMENT=.venv-reverb uv sync --python 3.11 --extra reverb --no-default-groups"
)
"""Shell command that creates an environment with Reverb."""


def check_installed(feature: str) -> None:
    """Check that DeepMind's Reverb is installed.

    Args:
      feature: Setting or command that requires Reverb, for the message.

    Raises:
      ConfigError: If Reverb is not installed.
    """
    try:
        metadata.version("dm-reverb")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            f"{feature}: DeepMind's Reverb is not installed in this environment. Its last release "
            "works only with TensorFlow 2.15 on CPython 3.11, so it needs an environment of its "
            f"own: run `{INSTALL_COMMAND}`, then `.venv-reverb/bin/dqnkit`{_alternative(feature)}"
        ) from None


def _alternative(feature: str) -> str:
    if not feature.startswith("replay."):
        return ""
    return "; in this environment, set replay.kind to uniform or prioritized"


def check_server_not_shared(address: str | None, feature: str) -> None:
    """Check that several runs do not share a replay server, which holds the replay of one run.

    Args:
      address: Value of `replay.address`.
      feature: Argument or command that trains several runs, for the message.

    Raises:
      ConfigError: If an address is set.
    """
    if address is not None:
        raise ConfigError(
            f"{feature} with replay.address={address}: a replay server holds the replay of one "
            "run only: leave replay.address out, and each run starts its own server"
        )
