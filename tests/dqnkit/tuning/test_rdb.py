"""A database of studies: how it is reached, waited for and refused. With a real PostgreSQL."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from dqnkit.errors import ConfigError, StudyError
from dqnkit.tuning import rdb, storage
from tests.conftest import ROOT
from tests.postgres import PASSWORD, USER, PostgresServer, binaries


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.make_database()


def test_a_password_may_come_from_the_environment_or_a_file(
    postgres: PostgresServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url(database, password=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with pytest.raises(StudyError, match="password"):
        storage.resolve(url).names()
    with monkeypatch.context() as patched:
        patched.setenv("PGPASSWORD", PASSWORD)
        assert storage.resolve(url).names() == []
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"{postgres.host}:{postgres.port}:*:{USER}:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert storage.resolve(url).names() == []


def test_the_whole_url_may_come_from_the_environment(
    postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DQNKIT_STORAGE", postgres.url(database))
    place = storage.resolve(None)
    assert place.names() == []
    assert place.place == postgres.url(database, password=False)
    assert PASSWORD not in place.dashboard("x")


@pytest.mark.parametrize("given", ["postgres", "postgresql"])
def test_postgresql_without_a_driver_gets_that_of_the_extra(given: str) -> None:
    assert rdb.parse(f"{given}://h/d").drivername == "postgresql+psycopg"


def test_a_wrong_password_is_told_and_not_shown(postgres: PostgresServer, database: str) -> None:
    url = postgres.url(database).replace(PASSWORD, "guessed-wrong")
    with pytest.raises(StudyError) as caught:
        storage.resolve(url).open("s")
    message = str(caught.value)
    assert "password authentication failed" in message
    assert f"{USER}@{postgres.host}" in message
    assert "guessed-wrong" not in message
    assert "sqlalche.me" not in message


def test_tls_options_pass_through(tmp_path: Path) -> None:
    if binaries() is None:
        pytest.skip("no PostgreSQL server: install the system's package postgresql")
    server = PostgresServer(tls=True)
    try:
        server.start()
        url = server.url(server.make_database())
        stranger = tmp_path / "other.crt"
        stranger.write_bytes(server.certificate.read_bytes().replace(b"MII", b"MIJ", 1))
        trusted = f"?sslmode=verify-full&sslrootcert={server.certificate}"
        assert _names_in_a_process(url + trusted) == "[]"
        strange = f"?sslmode=verify-full&sslrootcert={stranger}"
        assert "cannot be used" in _names_in_a_process(url + strange)
        assert "no encryption" in _names_in_a_process(f"{url}?sslmode=disable")
    finally:
        server.remove()


def _names_in_a_process(url: str) -> str:
    """The studies of a storage, or what is wrong; here TensorFlow may have been loaded."""
    code = """
import sys
from dqnkit.errors import DqnkitError
from dqnkit.tuning import storage
try:
    print(storage.resolve(sys.argv[1]).names())
except DqnkitError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_tls_beside_tensorflow_is_refused_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process, without a word."""
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    url = rdb.parse("postgresql://h/d?sslmode=require")
    with pytest.raises(ConfigError, match="has loaded TensorFlow"):
        rdb.connect(url, lambda: False)
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    with pytest.raises(ConfigError, match="sslmode=verify-ca"):
        rdb.connect(rdb.parse("postgresql://h/d"), lambda: False)


def test_tables_of_another_optuna_are_refused(postgres: PostgresServer, database: str) -> None:
    storage.resolve(postgres.url(database)).names()
    postgres.sql(database, "UPDATE alembic_version SET version_num = 'v99.0.0'")
    with pytest.raises(StudyError, match="no longer compatible with the table schema"):
        storage.resolve(postgres.url(database)).open("s")


def test_a_server_that_listens_and_is_silent_is_told_in_time(own_server: PostgresServer) -> None:
    name = own_server.make_database()
    own_server.freeze()
    try:
        start = time.monotonic()
        with pytest.raises(StudyError, match="cannot be used"):
            storage.resolve(own_server.url(name, options="?connect_timeout=2")).open("s")
        assert time.monotonic() - start < 15
    finally:
        own_server.freeze(signal.SIGCONT)


def test_a_database_that_is_away_for_a_while_is_waited_for(own_server: PostgresServer) -> None:
    place = storage.resolve(own_server.url(own_server.make_database()))
    opened = place.open("s")
    own_server.stop()
    back = threading.Timer(3.0, own_server.start)
    back.start()
    assert opened.get_all_studies() == []
    back.join()


def test_a_session_that_the_server_gave_up_is_begun_again(
    postgres: PostgresServer, database: str
) -> None:
    """As of a host that was cut off within a transaction for longer than the server waits."""
    opened = rdb.connect(rdb.parse(postgres.url(database)), lambda: False)
    study = opened.create_new_study([StudyDirection.MAXIMIZE], "s")

    def stall(connection: Any) -> None:
        connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 100")
        time.sleep(1.0)

    _once_after_a_statement(opened, stall)
    opened.set_study_user_attr(study, "key", "value")
    assert opened.last_failure > -math.inf
    assert opened.get_study_user_attrs(study) == {"key": "value"}


def test_a_server_that_goes_between_two_statements_of_a_call_is_waited_for(
    own_server: PostgresServer,
) -> None:
    """Optuna asks again by itself then, and is told of nothing but a transaction that is over."""
    url = rdb.parse(own_server.url(own_server.make_database()))
    opened = rdb.connect(url, lambda: False)
    study = opened.create_new_study([StudyDirection.MAXIMIZE], "s")
    trial = opened.create_new_trial(study)
    back = threading.Timer(2.0, own_server.start)

    def stop(_: object) -> None:
        own_server.stop()
        back.start()

    _once_after_a_statement(opened, stop)
    assert [each._trial_id for each in opened.get_all_trials(study)] == [trial]
    assert opened.last_failure > -math.inf
    back.join()


def _once_after_a_statement(opened: RDBStorage, act: Callable[[Any], None]) -> None:
    """Within the transaction that the statement is of."""
    acts = [act]

    @sqlalchemy.event.listens_for(opened.engine, "after_cursor_execute")
    def after(connection: Any, *_: object) -> None:
        if acts:
            acts.pop()(connection)


def test_it_is_not_waited_for_for_ever_nor_when_somebody_waits(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried: list[bool] = []
    place = storage.resolve(own_server.url(own_server.make_database()), lambda: bool(hurried))
    opened = place.open("s")
    own_server.stop()
    monkeypatch.setattr(rdb.PatientStorage, "patience", 60.0)
    hurried.append(True)
    start = time.monotonic()
    with pytest.raises(StudyError, match="start the same command again") as caught:
        opened.get_all_studies()
    assert time.monotonic() - start < 20
    assert PASSWORD not in str(caught.value)
    hurried.clear()
    monkeypatch.setattr(rdb.PatientStorage, "patience", 2.0)
    fresh = storage.resolve(own_server.url("x"))
    with pytest.raises(StudyError):
        fresh.open("s")


def test_a_fault_that_time_does_not_mend_is_not_waited_for(
    postgres: PostgresServer, database: str
) -> None:
    opened = storage.resolve(postgres.url(database)).open("s")
    postgres.sql(database, "DROP TABLE studies CASCADE")
    start = time.monotonic()
    with pytest.raises(Exception, match=r"commit|does not exist"):
        opened.get_all_studies()
    assert time.monotonic() - start < 20


def test_hosts_that_begin_a_study_together_make_it_once(
    postgres: PostgresServer, database: str
) -> None:
    """On a database that has no tables yet."""
    code = """
import sys
from functools import partial
from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.tuning import space, storage, study
from dqnkit.tuning.samplers import make_pruner, make_sampler
config, _ = resolve(loading.default_config("searched", []))
purpose = study.StudyDefinition(config, space.of(config), 1)
plan = study.StudyPlan(5, partial(make_sampler, "random", 0), make_pruner("none", 5, 1))
print("ready", flush=True)
sys.stdin.readline()
shared = study.open_study(storage.resolve(sys.argv[1]), "together", purpose, plan)
print([trial.state.name for trial in shared.trials()])
"""
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, postgres.url(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]
    for process in starts:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in starts:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in starts:
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert out.strip() == "['WAITING']"


@pytest.mark.parametrize("given", ["no url", "://", "foo://x", "postgresql+nodriver://h/d", ""])
def test_what_is_no_url_is_refused(given: str) -> None:
    if not given:
        assert storage.resolve(given).url is None
        return
    with pytest.raises(ConfigError, match="--storage"):
        storage.resolve(given)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"dqnkit\[postgresql\]"):
        storage.resolve("postgresql+psycopg://h/d").open("s")
