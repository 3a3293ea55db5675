"""Text for messages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from dqnkit._system.redaction import redact_secrets


def one_line(thing: object, limit: int = 300) -> str:
    """Return the text of an exception or object on one line, without secrets.

    Words in backticks get apostrophes: in messages of dqnkit, backticks mark names of arguments.

    Args:
      thing: The exception or object; an exception without text is named by its class.
      limit: Maximum number of characters; longer text ends in an ellipsis.
    """
    line = re.sub(r"`(\w+)`", r"'\1'", " ".join(str(thing).split()))
    text = redact_secrets(line) or type(thing).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def short_repr(value: object, limit: int = 80) -> str:
    """Return the representation of a value on one line, at most `limit` characters long."""
    return one_line(repr(value), limit)


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each key, or the whole key where two end alike."""
    keys = list(keys)
    endings = Counter(key.rpartition(".")[2] for key in keys)
    return {key: ending if endings[ending := key.rpartition(".")[2]] == 1 else key for key in keys}
