"""Storages of studies of each kind, and studies in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dqnkit.tuning import catalog
from dqnkit.tuning.storage import StudyStorage, locate_storage
from dqnkit.tuning.study import SharedStudy
from tests.dqnkit.tuning.helpers import make_definition, make_plan
from tests.postgres import PostgresServer, running

OpenStudy = Callable[..., SharedStudy]


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest) -> StudyStorage:
    """An empty storage of each kind."""
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        return locate_storage(server.url(server.make_database()))
    return locate_storage(None if request.param == "journal" else "sqlite:///studies.db")


@pytest.fixture
def open_study(storage: StudyStorage) -> OpenStudy:
    """A function that opens a study in the storage, or makes it."""

    def open_study(total: int = 5, name: str = "searched-1", *assignments: str) -> SharedStudy:
        definition = make_definition(*assignments)
        return catalog.open_study(storage, name, definition, make_plan(total))

    return open_study


@pytest.fixture
def journal_study() -> Callable[..., SharedStudy]:
    """A function that opens a study in a journal, for tests that need only one kind of storage."""

    def open_study(
        total: int = 5,
        *assignments: str,
        seeds_per_trial: int = 1,
        name: str = "searched-1",
        retrain_repeats: bool = False,
    ) -> SharedStudy:
        definition = make_definition(*assignments, seeds_per_trial=seeds_per_trial)
        plan = replace(make_plan(total), retrain_repeats=retrain_repeats)
        return catalog.open_study(locate_storage(None), name, definition, plan)

    return open_study


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may stop."""
    with running() as server:
        yield server
