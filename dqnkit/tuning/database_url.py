"""URLs of databases of studies: parsing, display without passwords, and driver arguments."""

from __future__ import annotations

import os
import sys
from typing import Any

import sqlalchemy
from sqlalchemy.engine import URL

from dqnkit._system.redaction import redact_passwords
from dqnkit.errors import ArgumentError

_SQLITE_BUSY_SECONDS = 20
"""Maximum time that SQLite waits for another process's write."""

# Options of libpq. By default, the system takes a quarter of an hour to notice that a host is cut
# off. Options in the URL take precedence.
_POSTGRESQL = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "dqnkit",
    # The server's side of the connection: a host that is gone must not hold locks for hours, and
    # heartbeats need a clock without daylight saving time.
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
}


def parse_url(storage: str) -> URL:
    """Return the URL of a database; PostgreSQL without a driver gets psycopg 3.

    Raises:
      ArgumentError: If it is not the URL of a database.
    """
    try:
        url = sqlalchemy.make_url(storage)
        if url.drivername in {"postgres", "postgresql"}:
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect()
    except Exception as error:  # of SQLAlchemy, or of any module that a scheme names
        raise ArgumentError(
            "storage",
            repr(redact_passwords(storage)),
            "expected the URL of a database, such as postgresql+psycopg://host/name or "
            "sqlite:///studies.db",
        ) from error
    return url


def without_password(url: URL) -> str:
    """Return a URL without passwords, which drivers can take from the environment instead."""
    secret = [key for key in url.query if "password" in key.lower()]
    bare = URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    )
    return bare.difference_update_query(secret).render_as_string()


def connect_arguments(url: URL) -> dict[str, Any]:
    """Return keyword arguments for the driver's `connect`.

    Raises:
      ArgumentError: If PostgreSQL requires TLS and this process has loaded TensorFlow.
    """
    if url.get_backend_name() == "sqlite":
        return {"timeout": _SQLITE_BUSY_SECONDS}
    if url.get_backend_name() == "postgresql":
        defaults = {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
        return defaults | _disable_tls_with_tensorflow(url)
    return {}


def _disable_tls_with_tensorflow(url: URL) -> dict[str, str]:
    """Disable TLS in a process that has loaded TensorFlow.

    TensorFlow and psycopg bring separate TLS libraries. With both in one process, the process
    crashes.
    """
    if "tensorflow" not in sys.modules:
        return {}
    mode = str(url.query.get("sslmode", os.environ.get("PGSSLMODE", "prefer")))
    if mode not in {"disable", "allow", "prefer"}:
        raise ArgumentError(
            "storage",
            without_password(url),
            f"sslmode={mode} is not possible in a process that has loaded TensorFlow: open the "
            "study in a process that has not, as `dqnkit tune` does",
        )
    return {"sslmode": "disable"}
