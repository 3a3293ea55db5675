"""Configuration from the arguments of a command."""

from __future__ import annotations

from collections.abc import Sequence

from dqnkit.config.loading import (
    DEFAULT_EXPERIMENT,
    Override,
    load,
    load_for_environment,
    parse_override,
)
from dqnkit.config.sections import Config


def experiment_config(
    experiment: str | None, env: str | None, seed: int | None, assignments: Sequence[str] | None
) -> Config:
    """Load the configuration that EXPERIMENT, `--env`, `--seed` and `--set` describe.

    Raises:
      ConfigError: If there is no such experiment, or a key or value is not allowed; the message
        names the option.
    """
    overrides = option_overrides(env, seed, assignments)
    if experiment is None and env is not None:
        return load_for_environment(env, overrides)
    return load(experiment or DEFAULT_EXPERIMENT, overrides)


def option_overrides(
    env: str | None, seed: int | None, assignments: Sequence[str] | None
) -> list[Override]:
    """Return the overrides of `--set`, then of `--env` and `--seed`, which win.

    Raises:
      ConfigError: If a `--set` is not of the form `section.key=value`.
    """
    overrides = [parse_override(each, given=f"--set {each}") for each in assignments or ()]
    if env is not None:
        overrides.append(Override("env.id", env, f"--env {env}"))
    if seed is not None:
        overrides.append(Override("training.seed", seed, f"--seed {seed}"))
    return overrides
