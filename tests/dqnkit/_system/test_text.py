from __future__ import annotations

import pytest

from dqnkit._system.text import one_line, short_names


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ("text", "text"),
        ("  several\n\tlines \r\n of text ", "several lines of text"),
        (ValueError("wrong\nvalue"), "wrong value"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "'name'"),
        ("there is no `name`: run `pip install x`", "there is no 'name': run `pip install x`"),
        (OSError("cannot reach http://me:hidden@host/x"), "cannot reach http://host/x"),
    ],
)
def test_text_is_on_one_line_without_secrets(thing: object, expected: str) -> None:
    assert one_line(thing) == expected


def test_long_text_ends_in_an_ellipsis() -> None:
    assert one_line("a" * 300) == "a" * 300
    assert one_line("a" * 301) == "a" * 297 + "..."
    assert one_line("abcdefgh", limit=6) == "abc..."


def test_short_names_are_the_last_parts_unless_two_end_alike() -> None:
    assert short_names(["a.x", "a.b.y", "c.y", "z"]) == {
        "a.x": "x",
        "a.b.y": "a.b.y",
        "c.y": "c.y",
        "z": "z",
    }
