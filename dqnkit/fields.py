"""What the sections of a configuration are made of: their base and the kinds of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _integral_float_to_int(value: Any) -> Any:
    """`1e5` is a float to YAML and a whole number to whoever wrote it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_integral_float_to_int)]
Count = Annotated[Whole, Field(ge=1, le=10**12)]
NonNegativeCount = Annotated[Whole, Field(ge=0, le=10**12)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]

Value = TypeVar("Value")


class Only:
    """Says of a key that it is read with some choices of other keys of its section alone.

    With these, null takes its default; with others, null is all that it may be, so that no value
    stands in a configuration that does nothing.
    """

    def __init__(self, default: Any = None, **choices: str | tuple[str, ...]) -> None:
        """Ties a key to others.

        Args:
          default: What null stands for where the key is read.
          choices: By key, the value or the values of it that read this one.
        """
        self.default = default
        self.choices = {k: (v,) if isinstance(v, str) else v for k, v in choices.items()}


class Section(BaseModel):
    """Base of all sections: frozen, no unknown key, no silent conversion, no value unread."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _take_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        defaults = {
            name: only.default
            for name, only in cls._ties()
            if values.get(name) is None and not cls._objection(only, values)
        }
        return values | defaults

    @model_validator(mode="after")
    def _reads_all(self) -> Self:
        unread: dict[str, list[str]] = {}
        for name, only in self._ties():
            value, objection = getattr(self, name), self._objection(only, vars(self))
            if value is not None and objection:
                key, chosen = objection
                reason = f"{key}={' or '.join(only.choices[key])} alone, and {key} is {chosen}"
                unread.setdefault(reason, []).append(f"{name}={value}")
        if unread:
            parts = (f"{', '.join(values)}: read with {why}" for why, values in unread.items())
            raise ValueError(f"{'; '.join(parts)}; leave out what is not read, or null")
        return self

    @classmethod
    def unread(cls, values: Mapping[str, Any]) -> set[str]:
        """The keys of a section that the choices among its values do not read."""
        return {name for name, only in cls._ties() if cls._objection(only, values)}

    @classmethod
    def _ties(cls) -> Iterator[tuple[str, Only]]:
        for name, field in cls.model_fields.items():
            yield from ((name, each) for each in field.metadata if isinstance(each, Only))

    @classmethod
    def _objection(cls, only: Only, values: Mapping[str, Any]) -> tuple[str, Any] | None:
        """The choice that keeps a key from being read, and what was chosen; None if it is read."""
        for key, readers in only.choices.items():
            chosen = values.get(key, cls.model_fields[key].default)
            if chosen not in readers:
                return key, chosen
        return None


def known(value: Value | None) -> Value:
    """A value that the configuration has wherever it is read (see `Only`)."""
    if value is None:
        raise ValueError("a value was read that this configuration leaves open: resolve it first")
    return value
