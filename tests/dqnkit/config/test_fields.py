from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from dqnkit.config import fields
from dqnkit.config.fields import AppliesTo, CombinationError, Section, required


class Shape(Section):
    """A section with keys that depend on one choice, on two, and on either of two."""

    kind: Literal["circle", "ellipse", "square"] = "circle"
    border: Literal["none", "solid", "dashed"] = "none"
    radius: Annotated[float | None, AppliesTo(1.0, kind="circle")] = None
    axes: Annotated[int | None, AppliesTo(kind="ellipse")] = None
    side: Annotated[float | None, AppliesTo(2.0, kind="square")] = None
    width: Annotated[float | None, AppliesTo(0.5, border=("solid", "dashed"))] = None
    gap: Annotated[float | None, AppliesTo(0.1, kind="square", border="dashed")] = None
    style: Annotated[
        Literal["thin", "thick"] | None, AppliesTo("thin", border=("solid", "dashed"))
    ] = None
    blur: Annotated[
        float | None, AppliesTo(3.0, {"border": "solid", "style": "thick"}, kind="ellipse")
    ] = None


def _error(**values: Any) -> CombinationError:
    with pytest.raises(ValidationError) as caught:
        Shape(**values)
    (detail,) = caught.value.errors()
    error = detail["ctx"]["error"]
    assert isinstance(error, CombinationError)
    return error


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("Whole", 3, 3),
        ("Whole", 1e5, 100_000),
        ("Whole", -2.0, -2),
        ("Count", 1e12, 10**12),
        ("NonNegativeCount", 0, 0),
        ("Probability", 1.0, 1.0),
        ("Fraction", 0.0, 0.0),
        ("NonNegative", 0.0, 0.0),
        ("Positive", 1e-300, 1e-300),
    ],
)
def test_numbers_within_their_range_are_accepted(kind: str, value: float, expected: float) -> None:
    result = TypeAdapter(getattr(fields, kind)).validate_python(value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Whole", 1.5),
        ("Whole", float("inf")),
        ("Count", 0),
        ("Count", 1e13),
        ("NonNegativeCount", -1),
        ("Probability", 1.1),
        ("Probability", -0.1),
        ("Fraction", 1.0),
        ("NonNegative", -1e-9),
        ("Positive", 0.0),
    ],
)
def test_numbers_outside_their_range_are_rejected(kind: str, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(getattr(fields, kind)).validate_python(value)


def test_null_is_replaced_by_the_default_where_a_key_applies() -> None:
    assert Shape().model_dump(exclude_none=True) == {
        "kind": "circle",
        "border": "none",
        "radius": 1.0,
    }
    dashed = Shape(kind="square", border="dashed", width=None)
    assert (dashed.side, dashed.width, dashed.gap, dashed.radius) == (2.0, 0.5, 0.1, None)


def test_a_given_value_is_kept_where_a_key_applies() -> None:
    assert Shape(radius=7.0).radius == 7.0
    assert Shape(kind="square", side=7.0).side == 7.0


def test_a_key_without_a_default_stays_null() -> None:
    assert Shape(kind="ellipse").axes is None
    assert Shape(kind="ellipse", axes=2).axes == 2


@pytest.mark.parametrize(
    ("values", "message", "keys"),
    [
        (
            {"side": 2.0},
            "side=2.0: only applies with kind=square, and kind is circle; "
            "remove it, or set it to null",
            {"side", "kind"},
        ),
        (
            {"width": 1.0},
            "width=1.0: only applies with border=solid or dashed, and border is none; "
            "remove it, or set it to null",
            {"width", "border"},
        ),
        (
            {"axes": 2, "side": 1.0, "width": 3.0},
            "axes=2: only applies with kind=ellipse, and kind is circle; "
            "side=1.0: only applies with kind=square, and kind is circle; "
            "width=3.0: only applies with border=solid or dashed, and border is none; "
            "remove them, or set them to null",
            {"axes", "side", "width", "kind", "border"},
        ),
        (
            {"width": 1.0, "style": "thin"},
            "width=1.0, style=thin: only apply with border=solid or dashed, and border is none; "
            "remove them, or set them to null",
            {"width", "style", "border"},
        ),
    ],
)
def test_values_that_do_not_apply_are_rejected_with_the_choice_that_they_need(
    values: dict[str, Any], message: str, keys: set[str]
) -> None:
    error = _error(**values)
    assert str(error) == message
    assert set(error.keys) == keys


def test_a_key_with_two_conditions_names_the_first_that_is_not_met() -> None:
    assert "kind=square, and kind is circle" in str(_error(border="dashed", gap=1.0))
    assert "border=dashed, and border is solid" in str(
        _error(kind="square", border="solid", gap=1.0)
    )


def test_a_key_with_alternatives_applies_with_each_of_them() -> None:
    assert Shape(kind="ellipse").blur == 3.0
    assert Shape(border="solid", style="thick").blur == 3.0
    assert Shape(border="solid", style="thin").blur is None


def test_a_rejected_alternative_is_the_one_that_is_met_the_furthest() -> None:
    assert "kind=ellipse, and kind is circle" in str(_error(blur=1.0))
    # `style` is null, which means thin.
    assert "style=thick, and style is thin" in str(_error(border="solid", blur=1.0))


def test_inapplicable_keys_of_raw_values() -> None:
    assert Shape.inapplicable({}) == {"axes", "side", "width", "gap", "style", "blur"}
    assert Shape.inapplicable({"kind": "square", "border": "dashed"}) == {"radius", "axes", "blur"}
    # Values have not been validated yet.
    assert "radius" in Shape.inapplicable({"kind": ["circle"]})


def test_a_section_that_is_dumped_is_validated_to_an_equal_one() -> None:
    for values in ({}, {"kind": "square", "border": "dashed"}, {"kind": "ellipse", "axes": 3}):
        shape = Shape(**values)
        assert Shape(**shape.model_dump()) == shape


def test_sections_are_immutable_and_strict() -> None:
    shape = Shape()
    with pytest.raises(ValidationError, match="frozen"):
        shape.kind = "square"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Shape(colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="valid number"):
        Shape(radius="1")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="finite"):
        Shape(radius=float("nan"))


def test_a_section_is_a_mapping() -> None:
    with pytest.raises(ValidationError, match="valid dictionary"):
        Shape.model_validate(3)


def test_required_returns_the_value() -> None:
    assert required(0) == 0
    assert required(False) is False
    assert required("") == ""


def test_required_rejects_null() -> None:
    with pytest.raises(ValueError, match="is null: pass a resolved configuration"):
        required(Shape().side)
