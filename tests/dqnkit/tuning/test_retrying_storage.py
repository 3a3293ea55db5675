"""Calls that wait for a database, with simulated errors and with a real PostgreSQL server."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError

from dqnkit.errors import StudyError
from dqnkit.tuning import database, retrying_storage
from dqnkit.tuning.database_url import parse_url
from dqnkit.tuning.retrying_storage import RetryingStorage, explain_driver_error
from dqnkit.tuning.storage import locate_storage
from tests.postgres import PASSWORD, PostgresServer


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> RetryingStorage:
    monkeypatch.setattr(retrying_storage, "_RETRY_SECONDS", 0.01)
    return database.connect(parse_url("sqlite:///studies.db"), lambda: False)


def _fail(storage: RetryingStorage, errors: list[BaseException]) -> None:
    """Let the statements of a storage fail with errors, one each, and succeed after them."""

    @sqlalchemy.event.listens_for(storage.engine, "before_cursor_execute")
    def fail(*_: object) -> None:
        if errors:
            raise errors.pop(0)


def _operational(text: str = "server closed the connection") -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception(text))


# -- Simulated errors


def test_a_call_is_repeated_until_the_database_answers(storage: RetryingStorage) -> None:
    errors: list[BaseException] = [_operational(), _operational()]
    _fail(storage, errors)
    assert storage.get_all_studies() == []
    assert errors == []
    assert storage.last_failure > -math.inf


def test_a_call_gives_up_after_its_patience(storage: RetryingStorage) -> None:
    storage.patience = 0.1
    _fail(storage, [_operational()] * 1_000)
    with pytest.raises(StudyError, match=r"sqlite:///studies\.db does not answer: .*closed"):
        storage.get_all_studies()
    assert storage.patience == 0.0  # cleaning up does not wait again


def test_an_interrupted_process_does_not_wait(storage: RetryingStorage) -> None:
    storage.is_interrupted = lambda: True
    errors: list[BaseException] = [_operational()] * 2
    _fail(storage, errors)
    with pytest.raises(StudyError, match="start the search again when it does"):
        storage.get_all_studies()
    assert len(errors) == 1


def test_other_errors_are_not_retried(storage: RetryingStorage) -> None:
    errors: list[BaseException] = [IntegrityError("INSERT", {}, Exception("twice"))] * 2
    _fail(storage, errors)
    with pytest.raises(IntegrityError):
        storage.get_all_studies()
    assert len(errors) == 1
    assert storage.last_failure == -math.inf


def test_the_drivers_error_is_found_behind_optunas() -> None:
    driver_error = _operational()
    wrapped = StorageInternalError("An exception is raised")
    wrapped.__cause__ = driver_error
    assert retrying_storage._driver_error(wrapped) is driver_error
    rollback = PendingRollbackError("rolled back")
    rollback.__context__ = driver_error
    assert retrying_storage._driver_error(rollback) is driver_error
    assert retrying_storage._driver_error(driver_error) is driver_error


def test_an_invalidated_connection_is_a_connection_error() -> None:
    error = sqlalchemy.exc.DBAPIError("SELECT 1", {}, Exception("?"), connection_invalidated=True)
    assert retrying_storage._is_connection_error(error)
    error.connection_invalidated = False
    assert not retrying_storage._is_connection_error(error)


def test_a_drivers_error_is_explained_without_statement_and_link() -> None:
    assert explain_driver_error(_operational("it broke")) == "(builtins.Exception) it broke"


# -- A real server


def test_an_outage_is_waited_for(own_server: PostgresServer) -> None:
    opened = locate_storage(own_server.url(own_server.make_database())).open("s")
    own_server.stop()
    restart = threading.Timer(3.0, own_server.start)
    restart.start()
    assert opened.get_all_studies() == []
    restart.join()


def test_a_session_that_the_server_ended_is_opened_again(postgres: PostgresServer) -> None:
    """The server ends sessions of hosts that are cut off within a transaction."""
    opened = database.connect(parse_url(postgres.url(postgres.make_database())), lambda: False)
    study = opened.create_new_study([StudyDirection.MAXIMIZE], "s")

    def stall(connection: Any) -> None:
        connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 100")
        time.sleep(1.0)

    _after_next_statement(opened, stall)
    opened.set_study_user_attr(study, "key", "value")
    assert opened.last_failure > -math.inf
    assert opened.get_study_user_attrs(study) == {"key": "value"}


def test_an_outage_between_two_statements_of_a_call_is_waited_for(
    own_server: PostgresServer,
) -> None:
    """Optuna then retries by itself, and reports only that the transaction is over."""
    opened = database.connect(parse_url(own_server.url(own_server.make_database())), lambda: False)
    study = opened.create_new_study([StudyDirection.MAXIMIZE], "s")
    trial = opened.create_new_trial(study)
    restart = threading.Timer(2.0, own_server.start)

    def stop(_: object) -> None:
        own_server.stop()
        restart.start()

    _after_next_statement(opened, stop)
    assert [each._trial_id for each in opened.get_all_trials(study)] == [trial]
    assert opened.last_failure > -math.inf
    restart.join()


def _after_next_statement(opened: RDBStorage, act: Callable[[Any], None]) -> None:
    """Call a function once, within the transaction of the next statement."""
    acts = [act]

    @sqlalchemy.event.listens_for(opened.engine, "after_cursor_execute")
    def after(connection: Any, *_: object) -> None:
        if acts:
            acts.pop()(connection)


def test_an_interruption_ends_the_wait_for_a_server(own_server: PostgresServer) -> None:
    interrupted: list[bool] = []
    url = own_server.url(own_server.make_database())
    opened = locate_storage(url, lambda: bool(interrupted)).open("s")
    own_server.stop()
    interrupted.append(True)
    start = time.monotonic()
    with pytest.raises(StudyError, match="does not answer") as caught:
        opened.get_all_studies()
    assert time.monotonic() - start < 30
    assert PASSWORD not in str(caught.value)


def test_an_error_that_waiting_does_not_mend_is_raised_at_once(postgres: PostgresServer) -> None:
    name = postgres.make_database()
    opened = locate_storage(postgres.url(name)).open("s")
    postgres.sql(name, "DROP TABLE studies CASCADE")
    start = time.monotonic()
    with pytest.raises(Exception, match=r"commit|does not exist"):
        opened.get_all_studies()
    assert time.monotonic() - start < 30
