"""Text for messages."""

from __future__ import annotations

from dqnkit._system.redaction import redact_secrets


def one_line(thing: object, limit: int = 300) -> str:
    """Return the text of an exception or object on one line, without secrets and backticks.

    In messages of dqnkit, backticks stand around names of arguments.

    Args:
      thing: The exception or object; an exception without text is named by its class.
      limit: Maximum number of characters; longer text ends in an ellipsis.
    """
    text = redact_secrets(" ".join(str(thing).replace("`", "'").split())) or type(thing).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
