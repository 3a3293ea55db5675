"""What a search may choose from: the values of `search:` in an experiment.

The names are Optuna's: `float`, `int`, `categorical`; `low`, `high`, `log`, `step`, `choices`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from dqnkit.config.fields import NonNegativeCount, Positive, Section, Whole

Units = Annotated[Whole, Field(ge=1, le=16_384)]


class _Range(Section):
    """What ranges have in common."""

    log: bool = False
    """Draw from the logarithm of the range."""

    def _check(self, low: float, high: float, step: float | None) -> None:
        if low > high:
            raise ValueError(f"low={low} is above high={high}: swap them")
        if self.log and low <= 0:
            raise ValueError(f"log=true needs a low above 0, and low={low} was given")
        if self.log and step is not None:
            raise ValueError("log and step exclude each other: leave one out")


class FloatRange(_Range):
    """Real numbers between two ends, which belong to it."""

    type: Literal["float"]
    low: float
    high: float
    step: Positive | None = None
    """Distance between neighbouring values; null allows all."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        self._check(self.low, self.high, self.step)
        return self


class IntRange(_Range):
    """Whole numbers between two ends, which belong to it."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Annotated[Whole, Field(ge=1)] | None = None
    """Distance between neighbouring values; null is 1."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        self._check(self.low, self.high, self.step)
        return self


def same(first: Any, second: Any) -> bool:
    """Equality by which 1 and true differ, as they do in YAML."""
    return bool(first == second) and isinstance(first, bool) == isinstance(second, bool)


class Choices(Section):
    """Values of any kind, lists among them, without order."""

    type: Literal["categorical"]
    choices: Annotated[tuple[JsonValue, ...], Field(strict=False, min_length=1, max_length=1_000)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        seen: list[JsonValue] = []
        for choice in self.choices:
            if any(same(choice, other) for other in seen):
                raise ValueError(f"choices: {choice!r} stands there twice")
            seen.append(choice)
        return self


class LayerSizes(_Range):
    """Lists of layer sizes: how many layers, and the units of each."""

    type: Literal["layers"]
    min_layers: Annotated[NonNegativeCount, Field(le=32)] = 1
    max_layers: Annotated[NonNegativeCount, Field(le=32)] = 3
    low: Units = 16
    """Fewest units of a layer."""
    high: Units = 256
    """Most units of a layer."""
    log: bool = True
    """Draw from the logarithm of the range."""
    step: Annotated[Whole, Field(ge=1)] | None = None
    """Distance between neighbouring numbers of units; null is 1. It needs log=false."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        self._check(self.low, self.high, self.step)
        if self.min_layers > self.max_layers:
            raise ValueError(
                f"min_layers={self.min_layers} is above max_layers={self.max_layers}: swap them"
            )
        return self


Distribution = FloatRange | IntRange | Choices | LayerSizes

KINDS: dict[str, type[Section]] = {
    "float": FloatRange,
    "int": IntRange,
    "categorical": Choices,
    "layers": LayerSizes,
}
"""What stands for `type`."""
_OWN_KEYS = frozenset(name for model in KINDS.values() for name in model.model_fields)


def _by_dotted_key(value: Any) -> Any:
    """`{optimizer: {learning_rate: …}}` and `{optimizer.learning_rate: …}` say the same."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}

    def add(prefix: str, entry: Any) -> None:
        if isinstance(entry, dict) and entry and not _OWN_KEYS & entry.keys():
            for name, below in entry.items():
                add(f"{prefix}.{name}", below)
        elif isinstance(entry, dict) and "type" not in entry and isinstance(flat.get(prefix), dict):
            flat[prefix] = {**flat[prefix], **entry}  # --set changes one number of a distribution
        else:
            flat[prefix] = entry

    for key, entry in value.items():
        add(str(key), entry)
    return flat


SearchSpace = Annotated[
    dict[str, Annotated[Distribution, Field(discriminator="type")]], BeforeValidator(_by_dotted_key)
]
"""Distributions by `section.key`."""
