"""Databases of studies, with a real PostgreSQL server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dqnkit.errors import StudyError
from dqnkit.tuning import database
from dqnkit.tuning.database_url import parse_url
from dqnkit.tuning.storage import locate_storage
from tests.conftest import ROOT
from tests.postgres import PASSWORD, USER, PostgresServer, binaries


@pytest.fixture
def database_name(postgres: PostgresServer) -> str:
    return postgres.make_database()


def test_the_password_may_come_from_the_environment_or_a_file(
    postgres: PostgresServer, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url(database_name, password=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with pytest.raises(StudyError, match="password"):
        locate_storage(url).study_names()
    with monkeypatch.context() as patched:
        patched.setenv("PGPASSWORD", PASSWORD)
        assert locate_storage(url).study_names() == []
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"{postgres.host}:{postgres.port}:*:{USER}:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert locate_storage(url).study_names() == []


def test_a_wrong_password_is_reported_and_not_shown(
    postgres: PostgresServer, database_name: str
) -> None:
    url = postgres.url(database_name).replace(PASSWORD, "guessed-wrong")
    with pytest.raises(StudyError) as caught:
        locate_storage(url).open("s")
    message = str(caught.value)
    assert "password authentication failed" in message
    assert f"{USER}@{postgres.host}" in message
    assert "guessed-wrong" not in message
    assert "sqlalche.me" not in message


def test_tls_options_reach_the_driver(tmp_path: Path) -> None:
    if binaries() is None:
        pytest.skip("no PostgreSQL server: install the system's package postgresql")
    server = PostgresServer(tls=True)
    try:
        server.start()
        url = server.url(server.make_database())
        other_certificate = tmp_path / "other.crt"
        other_certificate.write_bytes(server.certificate.read_bytes().replace(b"MII", b"MIJ", 1))
        trusted = f"?sslmode=verify-full&sslrootcert={server.certificate}"
        assert _study_names_in_a_process(url + trusted) == "[]"
        untrusted = f"?sslmode=verify-full&sslrootcert={other_certificate}"
        assert "cannot be used" in _study_names_in_a_process(url + untrusted)
        assert "no encryption" in _study_names_in_a_process(f"{url}?sslmode=disable")
    finally:
        server.remove()


def _study_names_in_a_process(url: str) -> str:
    """Return the studies of a storage, or the error, from a process without TensorFlow."""
    code = """
import sys
from dqnkit.errors import DqnkitError
from dqnkit.tuning.storage import locate_storage
try:
    print(locate_storage(sys.argv[1]).study_names())
except DqnkitError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_tables_of_another_optuna_are_refused(postgres: PostgresServer, database_name: str) -> None:
    locate_storage(postgres.url(database_name)).study_names()
    postgres.sql(database_name, "UPDATE alembic_version SET version_num = 'v99.0.0'")
    with pytest.raises(StudyError, match="no longer compatible with the table schema"):
        locate_storage(postgres.url(database_name)).open("s")


def test_a_server_that_does_not_answer_is_reported_in_time(own_server: PostgresServer) -> None:
    name = own_server.make_database()
    own_server.freeze()
    try:
        start = time.monotonic()
        with pytest.raises(StudyError, match="cannot be used"):
            locate_storage(own_server.url(name, options="?connect_timeout=2")).open("s")
        assert time.monotonic() - start < 30
    finally:
        own_server.freeze(signal.SIGCONT)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_locks_exclude_each_other_by_name(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = parse_url("sqlite:///studies.db")
    else:
        server = request.getfixturevalue("postgres")
        url = parse_url(server.url(server.make_database()))
    order: list[str] = []

    def wait_for_lock() -> None:
        with database.lock(url, "s"):
            order.append("second")

    thread = threading.Thread(target=wait_for_lock)
    with database.lock(url, "s"):
        thread.start()
        time.sleep(1.0)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_a_database_without_locks_is_not_locked() -> None:
    with database.lock(parse_url("mysql+pymysql://nowhere/d"), "s"):
        pass
