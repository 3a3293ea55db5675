"""Base class and value types of the configuration sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _integral_float_to_int(value: Any) -> Any:
    """Convert a float without a fractional part, because YAML reads `1e5` as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_integral_float_to_int)]
Count = Annotated[Whole, Field(ge=1, le=10**12)]
NonNegativeCount = Annotated[Whole, Field(ge=0, le=10**12)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]

Value = TypeVar("Value")


class CombinationError(ValueError):
    """Values of several keys that do not go together.

    Attributes:
      keys: Keys involved, relative to the section that raises the error.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys


class AppliesTo:
    """Annotation of a key that applies only with some choices of other keys of its section.

    Where the key applies, null is replaced by a default. Elsewhere any value but null is an error,
    so that a configuration holds no value without an effect.
    """

    def __init__(
        self,
        default: Any = None,
        *alternatives: Mapping[str, str],
        **choices: str | tuple[str, ...],
    ) -> None:
        """Set the choices with which the key applies.

        Args:
          default: Value that replaces null where the key applies.
          alternatives: Further combinations of choices, each sufficient by itself.
          choices: One or several values by key; the key applies if all of these keys have one of
            their values.
        """
        self.default = default
        self.combinations = [
            {key: (value,) if isinstance(value, str) else value for key, value in each.items()}
            for each in (choices, *alternatives)
        ]


class _Mismatch(NamedTuple):
    """A choice with which a key does not apply."""

    matched: int
    """Number of choices before it that match."""
    key: str
    chosen: Any
    needed: str
    """Choices with which the key would apply, as `key=value`."""


class Section(BaseModel):
    """Base class of all sections.

    A section is immutable and rejects unknown keys, implicit type conversions, and values of keys
    that do not apply (see `AppliesTo`).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        defaults = {
            name: applies_to.default
            for name, applies_to in cls._conditional_keys()
            if values.get(name) is None and not cls._mismatch(applies_to, values)
        }
        return values | defaults

    @model_validator(mode="after")
    def _reject_inapplicable(self) -> Self:
        found: dict[str, list[str]] = {}
        keys: list[str] = []
        for name, applies_to in self._conditional_keys():
            value, mismatch = getattr(self, name), self._mismatch(applies_to, vars(self))
            if value is not None and mismatch:
                reason = f"{mismatch.needed}, and {mismatch.key} is {mismatch.chosen}"
                found.setdefault(reason, []).append(f"{name}={value}")
                keys += [name, mismatch.key]
        if found:
            problems = [
                f"{', '.join(values)}: only {'applies' if len(values) == 1 else 'apply'} "
                f"with {reason}"
                for reason, values in found.items()
            ]
            it = "it" if sum(map(len, found.values())) == 1 else "them"
            advice = f"remove {it}, or set {it} to null"
            raise CombinationError(f"{'; '.join(problems)}; {advice}", *keys)
        return self

    @classmethod
    def inapplicable(cls, values: Mapping[str, Any]) -> set[str]:
        """Return the keys that do not apply with the choices among the values of a section."""
        return {
            name
            for name, applies_to in cls._conditional_keys()
            if cls._mismatch(applies_to, values)
        }

    @classmethod
    def _conditional_keys(cls) -> Iterator[tuple[str, AppliesTo]]:
        for name, field in cls.model_fields.items():
            yield from ((name, each) for each in field.metadata if isinstance(each, AppliesTo))

    @classmethod
    def _mismatch(cls, applies_to: AppliesTo, values: Mapping[str, Any]) -> _Mismatch | None:
        """Return the choice with which a key does not apply, or None if it applies.

        Of several combinations, the one with most matching choices is reported.
        """
        mismatches = []
        for combination in applies_to.combinations:
            mismatch = cls._first_mismatch(combination, values)
            if mismatch is None:
                return None
            mismatches.append(mismatch)
        return max(mismatches, key=lambda each: each.matched)

    @classmethod
    def _first_mismatch(
        cls, combination: Mapping[str, tuple[str, ...]], values: Mapping[str, Any]
    ) -> _Mismatch | None:
        conditional = dict(cls._conditional_keys())
        for matched, (key, accepted) in enumerate(combination.items()):
            chosen = values.get(key, cls.model_fields[key].default)
            if chosen is None and key in conditional:
                chosen = conditional[key].default
            if chosen not in accepted:
                return _Mismatch(matched, key, chosen, f"{key}={' or '.join(accepted)}")
        return None


def required(value: Value | None) -> Value:
    """Return a configuration value that must be set.

    Raises:
      ValueError: If it is null: the key does not apply (see `AppliesTo`), or the configuration has
        not been resolved for its environment.
    """
    if value is None:
        raise ValueError(
            "a configuration value that is needed here is null: pass a resolved configuration "
            "(`dqnkit.envs.resolution.resolve`)"
        )
    return value
