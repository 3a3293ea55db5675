"""Whether DeepMind's Reverb can be used here, told without loading it."""

from __future__ import annotations

from importlib import metadata

from dqnkit.errors import ConfigError

GET_IT = (
    "UV_PROJECT_ENVIRONMENT=.venv-reverb uv sync --python 3.11 --extra reverb --no-default-groups"
)
"""Makes an environment that has it."""


def check_installed(given: str) -> None:
    """Looks for Reverb.

    Args:
      given: What asks for it, for the message.

    Raises:
      ConfigError: It is not installed.
    """
    try:
        metadata.version("dm-reverb")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            f"{given}: DeepMind's Reverb is not in this environment. Its last release loads beside "
            "TensorFlow 2.15 on CPython 3.11 alone, so it takes one of its own: "
            f"`{GET_IT}`, then `.venv-reverb/bin/dqnkit`{_here(given)}"
        ) from None


def _here(given: str) -> str:
    return "; here, take replay.kind=uniform or prioritized" if given.startswith("replay.") else ""


def check_server_not_shared(address: str | None, given: str) -> None:
    """A replay server keeps the experience of one run.

    Args:
      address: `replay.address`.
      given: What asks for several runs, for the message.

    Raises:
      ConfigError: There is one.
    """
    if address is not None:
        raise ConfigError(
            f"{given} with replay.address={address}: a replay server keeps the experience of one "
            "run, and these would share it: leave the address out, and each run starts its own"
        )
