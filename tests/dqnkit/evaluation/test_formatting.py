from __future__ import annotations

import pytest

from dqnkit.evaluation.formatting import format_interval, format_number


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
def test_numbers_keep_what_tells_them_apart(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_whole_numbers_and_intervals() -> None:
    assert format_number(117_001.4, whole=True) == "117,001"
    assert format_interval(19.0, 17.25, 21.0) == "19.0 (17.2 to 21.0)"
    assert format_interval(19.0, None, None) == "19.0"
    assert format_interval(None, None, None) == "-"
