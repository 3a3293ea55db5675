"""Passwords and tokens, kept out of what is recorded or shown."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

_NAMES = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|API_?KEY|PRIVATE_KEY", re.IGNORECASE)
_SHORTEST = 8
"""Characters; shorter values stand in innocent text by chance."""
HIDDEN = "…"


def redact_secrets(text: str) -> str:
    """Text without passwords of URIs, and without what the environment holds as a secret."""
    text = redact_passwords(text)
    for value in _environment():
        text = text.replace(value, HIDDEN)
    return text


def redact_passwords(text: str) -> str:
    """Text whose URIs name no user and no password, neither before the host nor as an option."""
    text = re.sub(r"(\w+://)[^/?#\s]*@", r"\1", text)  # a password may hold an @
    text = re.sub(r"(\w+://)[^/@\s:]*:(?!\d+[/?#])\S*@", r"\1", text)  # or a slash
    option = r"\w*(?:password|passwd|pwd|token|secret|api_?key|odbc_connect)"
    return re.sub(rf"([?&]{option}=)[^&\s'\"]*", rf"\1{HIDDEN}", text, flags=re.IGNORECASE)


def holds_password(text: str) -> bool:
    """Whether a URI in it names a password."""
    before = re.search(r"\w+://[^/@\s]*:[^@\s]+@", text) is not None
    return before or re.search(r"\w+://\S*[?&]\w*password=", text, re.IGNORECASE) is not None


def _environment() -> list[str]:
    """Values of variables that are named like secrets, the longest first."""
    values = {value for name, value in os.environ.items() if _NAMES.search(name)}
    values |= {quote(value, safe="") for value in values}
    return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)
