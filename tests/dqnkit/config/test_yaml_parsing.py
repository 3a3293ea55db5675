from __future__ import annotations

import math
import time
from types import MappingProxyType
from typing import Any

import pytest

from dqnkit.config.yaml_parsing import check_values, parse_yaml, plain_copy


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("null", None),
        ("~", None),
        ("true", True),
        ("text", "text"),
        ("'1e-3'", "1e-3"),
        ("12", 12),
        ("100_000", 100_000),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("[1, two, null]", [1, "two", None]),
        ("a: {b: [1]}", {"a": {"b": [1]}}),
    ],
)
def test_values_of_yaml(text: str, value: object) -> None:
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("1e5", 1e5),
        ("+1e5", 1e5),
        ("-2e3", -2e3),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        ("2.5e-4", 2.5e-4),
    ],
)
def test_exponents_are_floats_with_and_without_a_dot(text: str, value: float) -> None:
    parsed = parse_yaml(text)
    assert isinstance(parsed, float)
    assert parsed == value


@pytest.mark.parametrize("text", ["e5", "1e", "1e-", "1x5", "1e5a", "1 e5"])
def test_other_texts_with_an_e_stay_text(text: str) -> None:
    assert parse_yaml(text) == text


def test_infinities_are_floats() -> None:
    assert parse_yaml(".inf") == math.inf
    assert math.isnan(parse_yaml(".nan"))


@pytest.mark.parametrize("text", ["a: 1\na: 2", "{a: 1, b: {c: 1, c: 1}}", "- {a: 1, 'a': 2}"])
def test_duplicate_keys_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"the key '[ac]' is given twice"):
        parse_yaml(text)


def test_a_duplicate_key_is_located() -> None:
    with pytest.raises(ValueError, match="line 3, column 3"):
        parse_yaml("agent:\n  gamma: 0.9\n  gamma: 0.8\n")


def test_merged_keys_are_not_duplicates() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
    }


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[1", "expected ',' or ']'"),
        ("a: b: c", "mapping values are not allowed"),
        ("\ta: 1", "cannot start any token"),
        ("a\x00", "special characters are not allowed"),
        ("*a", "undefined alias"),
        ("--- 1\n--- 2", "expected a single document"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("!unknown x", "could not determine a constructor"),
        ("2020-13-45", "month must be in"),
        ("1" * 5_000, "digits"),
        ("!!int ''", "does not fit its !! tag"),
        ("!!bool maybe", "does not fit its !! tag"),
        ("!!timestamp soon", "does not fit its !! tag"),
        ("2020-01-01", "datetime.date(2020, 1, 1) is of type date"),
        ("!!binary aGk=", "b'hi' is of type bytes"),
        ("!!set {a}", "{'a'} is of type set"),
        ("{1: x}", "the key 1 is not text: put it in quotes"),
        ("{null: x}", "the key None is not text"),
        ("{true: x}", "the key True is not text"),
        ("{2020-01-01: x}", "is not text"),
        ("{? [1, 2] : 3}", "unhashable key"),
        ("[" * 3_000, "recursion"),
        ("[" * 60 + "]" * 60, "more than 100,000 values or 50 levels"),
        ("&a [*a]", "50 levels"),
        ("{again: &a {again: *a}}", "50 levels"),
    ],
)
def test_other_documents_are_rejected_in_one_line(text: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is checked below
        parse_yaml(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_aliases_count_as_copies() -> None:
    lines = ["a: &a [x]"]
    for name, before in zip("bcdefgh", "abcdefg", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="100,000 values"):
        parse_yaml("\n".join(lines))
    assert time.perf_counter() - begin < 30


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_check_values_accepts_what_json_can_hold() -> None:
    check_values({"a": [1, 2.0, "x", True, None, {"b": (1, 2)}]})
    check_values(MappingProxyType({"a": 1}))
    check_values(_nested(50))
    check_values([0] * 99_999)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (_nested(51), "50 levels"),
        ([0] * 100_000, "100,000 values"),
        ({"a": object()}, "is of type object, and values are text, numbers"),
        ({"a": {1: 2}}, "the key 1 is not text"),
        ([{"a": {1, 2}}], "is of type set"),
        (b"x", "is of type bytes"),
    ],
)
def test_check_values_rejects_everything_else(value: object, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        check_values(value)


def test_plain_copies_share_no_part() -> None:
    shared = [1]
    value = MappingProxyType({"a": shared, "b": shared, "c": (1, (2,), {"d": shared})})
    copy = plain_copy(value)
    assert copy == {"a": [1], "b": [1], "c": [1, [2], {"d": [1]}]}
    copy["a"].append(2)
    assert (shared, copy["b"], copy["c"][2]["d"]) == ([1], [1], [1])


def test_aliases_of_a_document_are_independent_in_a_copy() -> None:
    copy = plain_copy(parse_yaml("a: &a {x: 1}\nb: *a"))
    copy["a"]["x"] = 2
    assert copy["b"] == {"x": 1}
