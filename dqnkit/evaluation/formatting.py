"""Numbers as people read them, in tables, descriptions and pictures."""

from __future__ import annotations

NOTHING = "-"


def format_number(value: float | None, *, whole: bool = False) -> str:
    """A return or the like: one decimal from 10 upwards, three digits below."""
    if value is None:
        return NOTHING
    if whole:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def format_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A statistic with its confidence interval."""
    if value is None or low is None or high is None:
        return format_number(value)
    return f"{format_number(value)} ({format_number(low)} to {format_number(high)})"
