"""Formatting of numbers, intervals and Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTHING = "-"
"""Text of a missing value."""


def format_number(value: float | None, *, whole: bool = False) -> str:
    """Format a return or a rate: one decimal from 10 to 10 million, else 3 significant digits.

    Args:
      value: The number, or None if it is missing.
      whole: Round to an integer instead.
    """
    if value is None:
        return NOTHING
    if whole and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if 10 <= abs(value) < 1e7 or value == 0 else f"{value:.3g}"


def format_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a statistic with its confidence interval, or alone if an end is None."""
    if value is None or low is None or high is None:
        return format_number(value)
    return f"{format_number(value)} ({format_number(low)} to {format_number(high)})"


def markdown_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table, with every `|` in a cell escaped."""
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in escaped)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, without a newline at its end.

    Args:
      header: Titles of the columns; a title may be empty.
      rows: Cells of each row, one per column.

    Raises:
      ValueError: If a row has another number of cells than the header.
    """
    lines = [markdown_row(header), "|" + "---|" * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"row {list(row)} has {len(row)} cells: the table has {len(header)}")
        lines.append(markdown_row(row))
    return "\n".join(lines)
