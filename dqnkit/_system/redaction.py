"""Removal of passwords and tokens from text that is recorded or shown."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

_NAMES = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|API_?KEY|PRIVATE_KEY", re.IGNORECASE)
_MIN_SECRET_LENGTH = 8
"""Minimum number of characters of a secret: shorter values occur in other text by chance."""
HIDDEN = "…"


def redact_secrets(text: str) -> str:
    """Remove the credentials of URIs, and the values of secret environment variables, from text."""
    text = redact_passwords(text)
    for value in _secret_values():
        text = text.replace(value, HIDDEN)
    return text


def redact_passwords(text: str) -> str:
    """Remove user and password from the URIs in a text, both before the host and in the query."""
    text = re.sub(r"(\w+://)[^/?#\s]*@", r"\1", text)  # a password may hold an @
    text = re.sub(r"(\w+://)[^/@\s:]*:(?!\d+[/?#])\S*@", r"\1", text)  # or a slash
    option = r"\w*(?:password|passwd|pwd|token|secret|api_?key|odbc_connect)"
    return re.sub(rf"([?&]{option}=)[^&\s'\"]*", rf"\1{HIDDEN}", text, flags=re.IGNORECASE)


def holds_password(text: str) -> bool:
    """Return whether a URI in a text contains a password."""
    before = re.search(r"\w+://[^/@\s]*:[^@\s]+@", text) is not None
    return before or re.search(r"\w+://\S*[?&]\w*password=", text, re.IGNORECASE) is not None


def _secret_values() -> list[str]:
    """Return the values of environment variables with names like secrets, longest first."""
    values = {value for name, value in os.environ.items() if _NAMES.search(name)}
    values |= {quote(value, safe="") for value in values}
    return sorted(
        (value for value in values if len(value) >= _MIN_SECRET_LENGTH), key=len, reverse=True
    )
