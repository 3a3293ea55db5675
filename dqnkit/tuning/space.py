"""What a search chooses from, and how a choice becomes a configuration."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dqnkit.config import loading
from dqnkit.config.distributions import (
    Choices,
    Distribution,
    FloatRange,
    IntRange,
    LayerSizes,
    same,
)
from dqnkit.config.loading import Override
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError

_BATCH_SIZES = (32, 64, 128, 256)
_NOT_SEARCHED = {
    "name": "it names the experiment",
    "description": "it describes the experiment",
    "search": "it is the search",
    "tracking": "it decides what is recorded",
    "evaluation": "scores of different evaluations have no common scale",
    "env.id": "returns of different environments have no common scale",
    "training.seed": "the search sets seeds itself, from training.seed and `seeds_per_trial`",
}
"""Keys and sections that no search may change."""
_RESOLVED = ("env.", "network.", "agent.", "training.loop")
"""Keys that only the environment can accept or refuse."""

Params = dict[str, Any]
"""What Optuna knows of a choice: a number, a string or a bool by name."""
Values = dict[str, Any]
"""What the configuration knows of it, by `section.key`."""


class Suggesting(Protocol):
    """The part of an `optuna.Trial` that chooses."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """A real number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""


@dataclass(frozen=True)
class Space:
    """A distribution for each key that a search may change."""

    distributions: Mapping[str, Distribution]

    def suggest(self, trial: Suggesting) -> Values:
        """Lets a trial choose a value for each key."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ranges that no step divides
            return {key: _suggest(trial, key, each) for key, each in self.distributions.items()}

    def params(self, config: Config) -> tuple[Params, list[str]]:
        """A configuration's own values, as Optuna's parameters.

        Returns:
          The parameters; and a sentence for each key whose value the space does not hold, which
          has none there.
        """
        params: Params = {}
        problems: list[str] = []
        config, _ = resolve(config)
        for key, distribution in self.distributions.items():
            own = loading.value_at(config, key)
            if not loading.applies(config, key):
                own = next(_ends(distribution))  # any will do
            found = _params(key, distribution, own)
            params |= found or {}
            if found is None:
                problems.append(
                    f"search.{key}: the experiment's own value {own} is not among what is searched "
                    f"({describe(distribution)}): trial 0 takes another there"
                )
        return params, problems

    def configure(self, config: Config, values: Values) -> Config:
        """The configuration with a trial's values, and nothing that they leave unread.

        Raises:
          ConfigError: They do not fit together.
        """
        overrides = [Override(key, each, f"search.{key}={each}") for key, each in values.items()]
        return loading.override_choices(config, overrides)

    def ends(self, key: str) -> list[Any]:
        """The ends of a key's range, or its choices; none where it is not searched."""
        return list(_ends(self.distributions[key])) if key in self.distributions else []

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what tells this space from another."""
        return {key: each.model_dump(mode="json") for key, each in self.distributions.items()}


def of(config: Config) -> Space:
    """The space that an experiment asks for: its `search:`, or the default one.

    Args:
      config: Resolved.

    Raises:
      ConfigError: A key is unknown or may not be searched, or the configuration would reject a
        value.
    """
    space = Space(config.search or _default(config))
    known = loading.config_keys()
    for key in space.distributions:
        _check_key(key, known)
    _check_values(space, config)
    return space


def describe(distribution: Distribution) -> str:
    """A distribution in a few words."""
    match distribution:
        case Choices():
            return "one of " + ", ".join(json.dumps(each) for each in distribution.choices)
        case LayerSizes():
            layers = f"{distribution.min_layers} to {distribution.max_layers} layers"
            return f"{layers} of {_range(distribution)} units"
        case _:
            return _range(distribution)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two spaces, or two configurations, as `key: before, now`."""
    return [
        f"{key}: {_short(before.get(key))} in the study, {_short(now.get(key))} here"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    if isinstance(value, dict):  # a distribution, without what it leaves out
        value = {k: v for k, v in value.items() if v is not None}
    return "nothing" if value is None else json.dumps(value)


def _range(distribution: FloatRange | IntRange | LayerSizes) -> str:
    text = f"{distribution.low:g} to {distribution.high:g}"
    if distribution.log:
        return f"{text}, logarithmic"
    return f"{text} by {distribution.step:g}" if distribution.step else text


def _default(config: Config) -> dict[str, Distribution]:
    """Learning rate, layer sizes and batch size, around the experiment's own values."""
    rate = config.optimizer.learning_rate
    own = config.network.fc_layer_params or ()
    size = config.training.batch_size
    capacity = config.replay.replay_buffer_max_length
    sizes = sorted({each for each in _BATCH_SIZES if each <= capacity} | {size})
    return {
        "optimizer.learning_rate": FloatRange(
            type="float", low=min(1e-5, rate), high=max(1e-2, rate), log=True
        ),
        "network.fc_layer_params": LayerSizes(
            type="layers",
            min_layers=min(1, len(own)),
            max_layers=max(3, len(own)),
            low=min(16, *own, 16),
            high=max(256, *own, 256),
        ),
        "training.batch_size": Choices(type="categorical", choices=tuple(sizes)),
    }


def _check_key(key: str, known: Sequence[str]) -> None:
    for prefix, reason in _NOT_SEARCHED.items():
        if key == prefix or key.startswith(f"{prefix}."):
            raise ConfigError(f"search.{key}: {prefix} cannot be searched: {reason}")
    if key not in known and not key.startswith("env.kwargs."):
        raise ConfigError(
            f"search.{key}: there is no key {key!r}{loading.suggestion(key, known)}; "
            "docs/configuration.md has them all"
        )
    if "." not in key:
        below = ", ".join(each for each in known if each.startswith(f"{key}."))
        raise ConfigError(f"search.{key}: is a section; name a key of it: {below}")


def _check_values(space: Space, config: Config) -> None:
    """Tries the ends of every range, and a number within, alone and in pairs."""
    ends = {key: space.ends(key) for key in space.distributions}
    for key, values in ends.items():
        for value in values:
            candidate = space.configure(config, {key: value})
            if key.startswith(_RESOLVED):
                _resolve(candidate, {key: value})
    for first, second in itertools.combinations(ends, 2):
        for one, other in itertools.product(_few(ends[first]), _few(ends[second])):
            pair = {first: one, second: other}
            candidate = space.configure(config, pair)
            if first.startswith("agent.") and second.startswith("agent."):
                _resolve(candidate, pair)
    for key in ends:
        _check_read(space, config, key)


def _check_read(space: Space, config: Config, key: str) -> None:
    """Some choice of the keys of its section must read it."""
    section = key.partition(".")[0]
    others = [other for other in space.distributions if other.startswith(f"{section}.")]
    for values in itertools.product(*(_few(space.ends(other)) for other in others)):
        candidate = space.configure(config, dict(zip(others, values, strict=True)))
        if loading.applies(candidate, key):
            return
    # Said as of an assignment: which choice would read it, and what is chosen.
    value = next(end for end in space.ends(key) if end is not None)
    loading.override(config, [Override(key, value, f"search.{key}={value}")])


def _few(values: Sequence[Any]) -> Sequence[Any]:
    """The first and the last, where there are many."""
    return values if len(values) <= 4 else [*values[:2], *values[-2:]]


def _resolve(config: Config, values: Values) -> None:
    try:
        resolve(config)
    except ConfigError as error:
        given = ", ".join(f"search.{key}={value}" for key, value in values.items())
        raise ConfigError(f"{given}: {error}") from error


def _ends(distribution: Distribution) -> Iterator[Any]:
    match distribution:
        case Choices():
            yield from distribution.choices
        case LayerSizes():
            yield [distribution.low] * distribution.min_layers
            yield [distribution.high] * distribution.max_layers
        case _:
            yield distribution.low
            yield distribution.high
            if isinstance(distribution, FloatRange) and distribution.step is None:
                # One from within, which is whole by no accident.
                yield distribution.low + 0.381966 * (distribution.high - distribution.low)


def _suggest(trial: Suggesting, key: str, distribution: Distribution) -> Any:
    log = not isinstance(distribution, Choices) and distribution.log
    match distribution:
        case FloatRange(low=low, high=high, step=step):
            return trial.suggest_float(key, low, high, step=step, log=log)
        case IntRange(low=low, high=high, step=step):
            return trial.suggest_int(key, low, high, step=step or 1, log=log)
        case Choices(choices=choices):
            # Optuna keeps plain values only.
            chosen = trial.suggest_categorical(key, [plain(each) for each in choices])
            return next(each for each in choices if same(plain(each), chosen))
        case LayerSizes(min_layers=fewest, max_layers=most, low=low, high=high, step=step):
            layers = trial.suggest_int(_layers(key), fewest, most, step=1, log=False)
            return [
                trial.suggest_int(_units(key, layer), low, high, step=step or 1, log=log)
                for layer in range(layers)
            ]


def _params(key: str, distribution: Distribution, own: Any) -> Params | None:
    """The inverse of `_suggest`; None for what the distribution does not hold."""
    match distribution:
        case Choices(choices=choices):
            held = any(same(plain(each), plain(own)) for each in choices)
            return {key: plain(own)} if held else None
        case LayerSizes(min_layers=fewest, max_layers=most):
            if not isinstance(own, list) or not fewest <= len(own) <= most:
                return None
            if not all(_holds(distribution, units) for units in own):
                return None
            units = {_units(key, layer): number for layer, number in enumerate(own)}
            return {_layers(key): len(own), **units}
        case _:
            return {key: own} if _holds(distribution, own) else None


def _holds(distribution: FloatRange | IntRange | LayerSizes, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    whole = not isinstance(distribution, FloatRange) or distribution.step is not None
    return not whole or abs(steps - round(steps)) < 1e-9


def _layers(key: str) -> str:
    return f"{key}.layers"


def _units(key: str, layer: int) -> str:
    return f"{key}.units_{layer + 1}"


def plain(value: Any) -> Any:
    """A value as Optuna keeps it: lists and mappings as text."""
    return json.dumps(value) if isinstance(value, list | dict) else value
