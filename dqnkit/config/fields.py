"""What the sections of a configuration are made of: their base and the kinds of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Self, TypeVar

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


class AppliesTo:
    """Says of a key that it is read with some choices of other keys of its section alone.

    With these, null takes its default; with others, null is all that it may be, so that no value
    stands in a configuration that does nothing.
    """

    def __init__(
        self,
        default: Any = None,
        *others: Mapping[str, str],
        **choices: str | tuple[str, ...],
    ) -> None:
        """Ties a key to others.

        Args:
          default: What null stands for where the key is read.
          others: Further choices that read this one, each by itself.
          choices: By key, the value or the values of it that read this one.
        """
        self.default = default
        self.ways = [
            {k: (v,) if isinstance(v, str) else v for k, v in way.items()}
            for way in (choices, *others)
        ]


class _Objection(NamedTuple):
    """Why a key is not read."""

    met: int
    """Choices that it has."""
    key: str
    chosen: Any
    wanted: str
    """In place of it, as `key=value`."""


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
                reason = f"{objection.wanted} alone, and {objection.key} is {objection.chosen}"
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
    def _ties(cls) -> Iterator[tuple[str, AppliesTo]]:
        for name, field in cls.model_fields.items():
            yield from ((name, each) for each in field.metadata if isinstance(each, AppliesTo))

    @classmethod
    def _objection(cls, only: AppliesTo, values: Mapping[str, Any]) -> _Objection | None:
        """The choice that keeps a key from being read; None if it is read.

        Of several ways to be read, what is missing from that which is met the furthest.
        """
        found = [cls._first_objection(way, values) for way in only.ways]
        objections = [each for each in found if each is not None]
        if len(objections) < len(found):
            return None
        return max(objections, key=lambda each: each.met)

    @classmethod
    def _first_objection(
        cls, way: Mapping[str, tuple[str, ...]], values: Mapping[str, Any]
    ) -> _Objection | None:
        defaults = dict(cls._ties())
        for met, (key, readers) in enumerate(way.items()):
            chosen = values.get(key, cls.model_fields[key].default)
            if chosen is None and key in defaults:
                chosen = defaults[key].default
            if chosen not in readers:
                return _Objection(met, key, chosen, f"{key}={' or '.join(readers)}")
        return None


def required(value: Value | None) -> Value:
    """A value that the configuration has wherever it is read (see `AppliesTo`)."""
    if value is None:
        raise ValueError("a value was read that this configuration leaves open: resolve it first")
    return value
