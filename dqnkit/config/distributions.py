"""Distributions of the search space: the values of `search:` in an experiment.

The names are Optuna's: `float`, `int`, `categorical`; `low`, `high`, `log`, `step`, `choices`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from dqnkit.config.fields import CombinationError, NonNegativeCount, Positive, Section, Whole

Units = Annotated[Whole, Field(ge=1, le=16_384)]


class _Range(Section):
    """Base class of distributions over a range of numbers."""

    log: bool = False
    """Sample uniformly in the logarithm."""

    def _check(self, low: float, high: float, step: float | None) -> None:
        if low > high:
            raise CombinationError(
                f"low={low} is greater than high={high}: swap them", "low", "high"
            )
        if self.log and low <= 0:
            raise CombinationError(f"log=true needs low above 0, and low={low}", "log", "low")
        if self.log and step is not None:
            raise CombinationError("log and step exclude each other: remove one", "log", "step")


class FloatRange(_Range):
    """Real numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: float
    high: float
    step: Positive | None = None
    """Distance between neighbouring values; null allows all."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        self._check(self.low, self.high, self.step)
        return self


class IntRange(_Range):
    """Integers from `low` to `high`, both included."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Annotated[Whole, Field(ge=1)] | None = None
    """Distance between neighbouring values; null is 1."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        self._check(self.low, self.high, self.step)
        return self


def same(first: Any, second: Any) -> bool:
    """Return whether two values are equal and either both or neither are booleans.

    Python counts 1 and true as equal; YAML does not.
    """
    return bool(first == second) and isinstance(first, bool) == isinstance(second, bool)


class Choices(Section):
    """Unordered values of any type, including lists."""

    type: Literal["categorical"]
    choices: Annotated[tuple[JsonValue, ...], Field(strict=False, min_length=1, max_length=1_000)]

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        seen: list[JsonValue] = []
        for choice in self.choices:
            if any(same(choice, other) for other in seen):
                raise CombinationError(f"choices: {choice!r} is given twice", "choices")
            seen.append(choice)
        return self


class LayerSizes(_Range):
    """Lists of layer sizes: a number of layers, and a number of units for each."""

    type: Literal["layers"]
    min_layers: Annotated[NonNegativeCount, Field(le=32)] = 1
    max_layers: Annotated[NonNegativeCount, Field(le=32)] = 3
    low: Units = 16
    """Minimum number of units of a layer."""
    high: Units = 256
    """Maximum number of units of a layer."""
    log: bool = True
    """Sample units uniformly in the logarithm."""
    step: Annotated[Whole, Field(ge=1)] | None = None
    """Distance between neighbouring numbers of units; null is 1. A step needs log=false."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        self._check(self.low, self.high, self.step)
        if self.min_layers > self.max_layers:
            raise CombinationError(
                f"min_layers={self.min_layers} is greater than max_layers={self.max_layers}: "
                "swap them",
                "min_layers",
                "max_layers",
            )
        return self


Distribution = FloatRange | IntRange | Choices | LayerSizes

KINDS: dict[str, type[Section]] = {
    "float": FloatRange,
    "int": IntRange,
    "categorical": Choices,
    "layers": LayerSizes,
}
"""Class of a distribution by its `type`."""
_OWN_KEYS = frozenset(name for model in KINDS.values() for name in model.model_fields)


def _by_dotted_key(value: Any) -> Any:
    """Flatten `{optimizer: {learning_rate: …}}` to `{optimizer.learning_rate: …}`."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}

    def add(prefix: str, entry: Any) -> None:
        if isinstance(entry, dict) and entry and not _OWN_KEYS & entry.keys():
            for name, inner in entry.items():
                add(f"{prefix}.{name}", inner)
        elif isinstance(entry, dict) and "type" not in entry and isinstance(flat.get(prefix), dict):
            # An override of one key, such as `search.agent.gamma.low=0.9`, is nested beside the
            # dotted key of the file.
            flat[prefix] = {**flat[prefix], **entry}
        else:
            flat[prefix] = entry

    for key, entry in value.items():
        add(str(key), entry)
    return flat


SearchSpace = Annotated[
    dict[str, Annotated[Distribution, Field(discriminator="type")]], BeforeValidator(_by_dotted_key)
]
"""Distributions by `section.key`."""
