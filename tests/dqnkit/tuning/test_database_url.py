from __future__ import annotations

import sys

import pytest

from dqnkit.errors import ArgumentError
from dqnkit.tuning.database_url import connect_arguments, parse_url, without_password


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql_without_a_driver_gets_psycopg(scheme: str) -> None:
    assert parse_url(f"{scheme}://h/d").drivername == "postgresql+psycopg"


def test_a_driver_of_the_url_is_kept() -> None:
    assert parse_url("postgresql+psycopg2://h/d").drivername == "postgresql+psycopg2"


@pytest.mark.parametrize(
    "given", ["no url", "://", "foo://x", "postgresql+nodriver://h/d", "mysql://me:secret@h:x/d"]
)
def test_other_texts_are_refused(given: str) -> None:
    with pytest.raises(ArgumentError, match="expected the URL of a database") as caught:
        parse_url(given)
    assert caught.value.argument == "storage"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:secret@h:5/d", "postgresql+psycopg://me@h:5/d"),
        ("postgresql://me@h/d?sslpassword=secret&a=b", "postgresql+psycopg://me@h/d?a=b"),
        ("sqlite:///studies.db", "sqlite:///studies.db"),
    ],
)
def test_a_url_is_shown_without_passwords(given: str, shown: str) -> None:
    assert without_password(parse_url(given)) == shown


def test_options_of_the_url_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    defaults = connect_arguments(parse_url("postgresql://h/d"))
    assert defaults["connect_timeout"] == "10"
    assert "timezone=UTC" in defaults["options"]
    given = connect_arguments(parse_url("postgresql://h/d?connect_timeout=2"))
    assert given == {key: value for key, value in defaults.items() if key != "connect_timeout"}


def test_sqlite_waits_for_other_processes_and_other_drivers_get_no_arguments() -> None:
    assert connect_arguments(parse_url("sqlite:///x.db")) == {"timeout": 20}
    assert connect_arguments(parse_url("mysql+pymysql://h/d")) == {}


def test_tls_is_disabled_or_refused_beside_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two TLS libraries in one process would crash it."""
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert connect_arguments(parse_url("postgresql://h/d"))["sslmode"] == "disable"
    with pytest.raises(ArgumentError, match=r"sslmode=require .*has loaded TensorFlow"):
        connect_arguments(parse_url("postgresql://h/d?sslmode=require"))
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    with pytest.raises(ArgumentError, match="sslmode=verify-ca"):
        connect_arguments(parse_url("postgresql://h/d"))
