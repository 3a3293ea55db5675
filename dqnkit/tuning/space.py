"""The search space: distributions of configuration values, and their parameters in Optuna."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dqnkit._system.files import kept_working_directory
from dqnkit._system.text import short_names
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
from dqnkit.tracking.names import SEARCH

_INTERIOR_FRACTION = 0.381966
"""Fraction of a real range at which it is checked too. The value there is rarely an integer."""

Params = dict[str, Any]
"""Optuna's parameters of a trial: numbers, strings and booleans by name."""
Values = dict[str, Any]
"""Configuration values of a trial, by `section.key`."""


class Suggester(Protocol):
    """The methods of `optuna.Trial` that sample parameters."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """Sample a real number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Sample an integer."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Sample one of several values."""


@dataclass(frozen=True)
class Space:
    """A search space: one distribution for each configuration key that trials change."""

    distributions: Mapping[str, Distribution]

    def suggest(self, trial: Suggester) -> Values:
        """Sample a value for each key."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns if a step does not divide a range
            return {key: _suggest(trial, key, each) for key, each in self.distributions.items()}

    def params(self, config: Config) -> tuple[Params, list[str]]:
        """Return the parameters that a configuration's own values correspond to.

        Returns:
          The parameters, and a warning for each key whose value lies outside the space and
          therefore has no parameter.
        """
        params: Params = {}
        warned: list[str] = []
        with kept_working_directory():
            config, _ = resolve(config)
        for key, distribution in self.distributions.items():
            value = loading.value_at(config, key)
            if not loading.applies(config, key):
                value = next(_extremes(distribution))  # the value has no effect
            found = _params(key, distribution, value)
            if found is None:
                warned.append(
                    f"search.{key}: the experiment's own value {value} is outside the search space "
                    f"({describe(distribution)}): trial 0 uses another value"
                )
            params |= found or {}
        return params, warned

    def configure(self, config: Config, values: Values) -> Config:
        """Return a configuration with the values of a trial, without values that do not apply.

        Raises:
          ConfigError: If the values do not fit together.
        """
        overrides = [Override(key, each, f"search.{key}={each}") for key, each in values.items()]
        return loading.override_choices(config, overrides)

    def axes(self, values: Values) -> dict[str, float]:
        """Return the values of a trial as numbers for charts, by the names of their metrics.

        A metric is named `search/` and the last part of its key, or the whole key where two end
        alike. Ranges that are sampled in the logarithm give `search/log10_…`, layers their number
        and that of their units, and choices of words nothing.
        """
        labels = short_names(self.distributions)
        axes: dict[str, float] = {}
        for key, value in values.items():
            axes |= _axes(labels[key], self.distributions[key], value)
        return {f"{SEARCH}/{label}": number for label, number in axes.items()}

    def values_to_check(self, key: str) -> list[Any]:
        """Return the values at which a key is checked: both ends of its range, or all choices.

        A range of real numbers has a value from its interior as well. The list is empty for a key
        that is not searched.
        """
        return list(_extremes(self.distributions[key])) if key in self.distributions else []

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document, which is equal for equal spaces."""
        return {key: each.model_dump(mode="json") for key, each in self.distributions.items()}


def describe(distribution: Distribution) -> str:
    """Return a distribution in a few words."""
    match distribution:
        case Choices():
            return "one of " + ", ".join(json.dumps(each) for each in distribution.choices)
        case LayerSizes():
            layers = f"{distribution.min_layers} to {distribution.max_layers} layers"
            return f"{layers} of {_describe_range(distribution)} units"
        case _:
            return _describe_range(distribution)


def _axes(label: str, distribution: Distribution, value: Any) -> dict[str, float]:
    if isinstance(value, list):
        if not all(isinstance(each, int | float) for each in value):
            return {}
        return {f"{label}.layers": len(value), f"{label}.units": sum(value)}
    if not isinstance(value, int | float):
        return {}
    if isinstance(distribution, FloatRange | IntRange) and distribution.log:
        return {f"log10_{label}": math.log10(value)}
    return {label: float(value)}


def to_param(value: Any) -> Any:
    """Return a choice as a parameter of Optuna, which stores lists and mappings as JSON text."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _describe_range(distribution: FloatRange | IntRange | LayerSizes) -> str:
    text = f"{distribution.low:g} to {distribution.high:g}"
    if distribution.log:
        return f"{text}, logarithmic"
    return f"{text} by {distribution.step:g}" if distribution.step else text


def _extremes(distribution: Distribution) -> Iterator[Any]:
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
                width = distribution.high - distribution.low
                yield distribution.low + _INTERIOR_FRACTION * width


def _suggest(trial: Suggester, key: str, distribution: Distribution) -> Any:
    log = not isinstance(distribution, Choices) and distribution.log
    match distribution:
        case FloatRange(low=low, high=high, step=step):
            return trial.suggest_float(key, low, high, step=step, log=log)
        case IntRange(low=low, high=high, step=step):
            return trial.suggest_int(key, low, high, step=step or 1, log=log)
        case Choices(choices=choices):
            chosen = trial.suggest_categorical(key, [to_param(each) for each in choices])
            return next(each for each in choices if same(to_param(each), chosen))
        case LayerSizes(min_layers=fewest, max_layers=most, low=low, high=high, step=step):
            layers = trial.suggest_int(_layers_param(key), fewest, most, step=1, log=False)
            return [
                trial.suggest_int(_units_param(key, layer), low, high, step=step or 1, log=log)
                for layer in range(layers)
            ]


def _params(key: str, distribution: Distribution, value: Any) -> Params | None:
    """Return the parameters for which `_suggest` gives a value; None if there are none."""
    match distribution:
        case Choices(choices=choices):
            is_choice = any(same(to_param(each), to_param(value)) for each in choices)
            return {key: to_param(value)} if is_choice else None
        case LayerSizes(min_layers=fewest, max_layers=most):
            if not isinstance(value, list) or not fewest <= len(value) <= most:
                return None
            if not all(_contains(distribution, units) for units in value):
                return None
            units = {_units_param(key, layer): number for layer, number in enumerate(value)}
            return {_layers_param(key): len(value), **units}
        case _:
            return {key: value} if _contains(distribution, value) else None


def _contains(distribution: FloatRange | IntRange | LayerSizes, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    is_stepped = not isinstance(distribution, FloatRange) or distribution.step is not None
    return not is_stepped or abs(steps - round(steps)) < 1e-9


def _layers_param(key: str) -> str:
    return f"{key}.layers"


def _units_param(key: str, layer: int) -> str:
    return f"{key}.units_{layer + 1}"
