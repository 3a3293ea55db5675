from __future__ import annotations

import pytest

from dqnkit.evaluation.formatting import (
    format_interval,
    format_number,
    markdown_row,
    markdown_table,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (500.0, "500.0"),
        (-168.73, "-168.7"),
        (12345.6, "12,345.6"),
        (9.4567, "9.46"),
        (0.24, "0.24"),
        (0.0, "0.0"),
    ],
)
def test_numbers_keep_their_significant_digits(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_whole_numbers_and_intervals() -> None:
    assert format_number(117_001.4, whole=True) == "117,001"
    assert format_number(None, whole=True) == "-"
    assert format_interval(19.0, 17.25, 21.0) == "19.0 (17.2 to 21.0)"
    assert format_interval(19.0, None, None) == "19.0"
    assert format_interval(None, None, None) == "-"


def test_table_has_a_header_a_delimiter_row_and_the_rows() -> None:
    rows = [["one", "1.5"], ["two", "-"]]
    assert markdown_table(["", "value"], rows).splitlines() == [
        "| | value |",
        "|---|---|",
        "| one | 1.5 |",
        "| two | - |",
    ]


def test_table_without_rows_is_its_header() -> None:
    assert markdown_table(["a", "b"], iter([])) == "| a | b |\n|---|---|"


def test_pipes_in_cells_do_not_end_the_cell() -> None:
    table = markdown_table(["a|b"], [["`x | y`"], ["|"]])
    assert table.splitlines() == [r"| a\|b |", "|---|", r"| `x \| y` |", r"| \| |"]
    assert markdown_row(["a|b", "c"]) == r"| a\|b | c |"


@pytest.mark.parametrize("row", [["1"], ["1", "2", "3"], []])
def test_row_with_another_number_of_cells_is_an_error(row: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{len(row)} cells: the table has 2"):
        markdown_table(["a", "b"], [["1", "2"], row])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1.797e308, "-1.8e+308"),
        (12_345_678.0, "1.23e+07"),
        (9_999_999.0, "9,999,999.0"),
        (123.456, "123.5"),
        (0.0, "0.0"),
    ],
)
def test_huge_numbers_have_three_digits(value: float, text: str) -> None:
    assert format_number(value) == text
