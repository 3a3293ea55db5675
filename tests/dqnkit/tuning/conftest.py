"""Storages of studies: what holds for one must hold for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dqnkit.tuning import storage
from dqnkit.tuning.storage import StudyStorage
from tests.postgres import PostgresServer, running


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> StudyStorage:
    """Empty."""
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        return storage.resolve(server.url(server.make_database()))
    return storage.resolve(None if request.param == "journal" else "sqlite:///studies.db")


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """One to be stopped."""
    with running() as server:
        yield server
