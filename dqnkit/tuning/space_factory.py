"""Construction of the search space of an experiment, with checks of its keys and values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from dqnkit.config import loading
from dqnkit.config.distributions import Choices, Distribution, FloatRange, LayerSizes
from dqnkit.config.loading import Override
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.tuning.space import Space, Values

_BATCH_SIZES = (32, 64, 128, 256)
_NOT_SEARCHED = {
    "name": "it names the experiment",
    "description": "it describes the experiment",
    "search": "it is the search space",
    "tracking": "it decides what is recorded",
    "evaluation": "scores of different evaluations have no common scale",
    "env.id": "returns of different environments have no common scale",
    "training.seed": "a search sets seeds itself, from training.seed and `seeds_per_trial`",
}
"""Keys and sections that cannot be searched, with the reason."""
_ENVIRONMENT_DEPENDENT = ("env.", "network.", "agent.", "training.loop")
"""Prefixes of keys whose values are valid or not depending on the environment."""


def make_space(config: Config) -> Space:
    """Make the search space of an experiment: its section `search`, or the default space.

    Args:
      config: The resolved configuration.

    Raises:
      ConfigError: If a key is unknown or cannot be searched, or the configuration rejects one of
        the checked values.
    """
    space = Space(config.search or default_distributions(config))
    known = loading.config_keys()
    for key in space.distributions:
        _check_key(key, known)
    _check_values(space, config)
    _check_pairs(space, config)
    for key in space.distributions:
        _check_applies(space, config, key)
    return space


def default_distributions(config: Config) -> dict[str, Distribution]:
    """Return the default space: learning rate, layer sizes and batch size.

    The ranges contain the experiment's own values.
    """
    rate = config.optimizer.learning_rate
    layers = config.network.fc_layer_params or ()
    return {
        "optimizer.learning_rate": FloatRange(
            type="float", low=min(1e-5, rate), high=max(1e-2, rate), log=True
        ),
        "network.fc_layer_params": LayerSizes(
            type="layers",
            min_layers=min(1, len(layers)),
            max_layers=max(3, len(layers)),
            low=min((16, *layers)),
            high=max((256, *layers)),
        ),
        "training.batch_size": Choices(type="categorical", choices=_batch_sizes(config)),
    }


def _batch_sizes(config: Config) -> tuple[int, ...]:
    capacity = config.replay.replay_buffer_max_length
    sizes = {size for size in _BATCH_SIZES if size <= capacity}
    return tuple(sorted(sizes | {config.training.batch_size}))


def _check_key(key: str, known: Sequence[str]) -> None:
    for prefix, reason in _NOT_SEARCHED.items():
        if key == prefix or key.startswith(f"{prefix}."):
            raise ConfigError(f"search.{key}: {prefix} cannot be searched: {reason}")
    if key not in known and not key.startswith("env.kwargs."):
        raise ConfigError(
            f"search.{key}: there is no key {key!r}{loading.suggestion(key, known)}; "
            "docs/configuration.md lists all keys"
        )
    if "." not in key:
        keys = ", ".join(each for each in known if each.startswith(f"{key}."))
        raise ConfigError(f"search.{key}: {key} is a section; name one of its keys: {keys}")


def _check_values(space: Space, config: Config) -> None:
    """Check the values of each key alone."""
    for key in space.distributions:
        for value in space.values_to_check(key):
            candidate = space.configure(config, {key: value})
            if key.startswith(_ENVIRONMENT_DEPENDENT):
                _check_resolves(candidate, {key: value})


def _check_pairs(space: Space, config: Config) -> None:
    """Check the values of keys in pairs."""
    for first, second in itertools.combinations(space.distributions, 2):
        values = (_few(space.values_to_check(key)) for key in (first, second))
        for pair in itertools.product(*values):
            chosen = dict(zip((first, second), pair, strict=True))
            candidate = space.configure(config, chosen)
            if first.startswith("agent.") and second.startswith("agent."):
                _check_resolves(candidate, chosen)


def _check_applies(space: Space, config: Config, key: str) -> None:
    """Check that a key applies with at least one combination of values of its section."""
    section = key.partition(".")[0]
    keys = [each for each in space.distributions if each.startswith(f"{section}.")]
    for values in itertools.product(*(_few(space.values_to_check(each)) for each in keys)):
        candidate = space.configure(config, dict(zip(keys, values, strict=True)))
        if loading.applies(candidate, key):
            return
    # As an override, the value is rejected with a message that names the choice it needs.
    value = next(value for value in space.values_to_check(key) if value is not None)
    loading.override(config, [Override(key, value, f"search.{key}={value}")])


def _check_resolves(config: Config, values: Values) -> None:
    try:
        resolve(config)
    except ConfigError as error:
        given = ", ".join(f"search.{key}={value}" for key, value in values.items())
        raise ConfigError(f"{given}: {error}") from error


def _few(values: Sequence[Any]) -> Sequence[Any]:
    """Return the first two and the last two of many values, which bounds the number of checks."""
    return values if len(values) <= 4 else [*values[:2], *values[-2:]]
