"""The experiment that a command line names."""

from __future__ import annotations

from collections.abc import Sequence

from dqnkit.config.loading import DEFAULT_EXPERIMENT, Override, load, load_for_environment
from dqnkit.config.sections import Config


def experiment_config(
    experiment: str | None, env: str | None, seed: int | None, assignments: Sequence[str] | None
) -> Config:
    """The configuration of EXPERIMENT, `--env`, `--seed` and `--set`.

    Raises:
      ConfigError: One of them is wrong.
    """
    given = options(env, seed)
    if experiment is None and env is not None:
        return load_for_environment(env, assignments or [], given)
    return load(experiment or DEFAULT_EXPERIMENT, assignments or [], given)


def options(env: str | None, seed: int | None) -> dict[str, Override]:
    """What `--env` and `--seed` set, by key."""
    given: dict[str, Override] = {}
    if env is not None:
        given["env.id"] = Override(f"--env {env}", env)
    if seed is not None:
        given["training.seed"] = Override(f"--seed {seed}", seed)
    return given
