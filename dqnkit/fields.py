"""What the sections of a configuration are made of: their base and the kinds of numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _integral_float_to_int(value: Any) -> Any:
    """`1e5` is a float to YAML and a whole number to whoever wrote it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_integral_float_to_int)]
Count = Annotated[Whole, Field(ge=1, le=10**12)]
NonNegativeCount = Annotated[Whole, Field(ge=0, le=10**12)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """Base of all sections: frozen, no unknown key, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
