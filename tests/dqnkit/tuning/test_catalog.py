from __future__ import annotations

import os
import subprocess
import sys

import optuna
import pytest

from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.processes import identity
from dqnkit.tuning import catalog
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.storage import StudyStorage
from tests.conftest import ROOT
from tests.dqnkit.tuning.conftest import OpenStudy
from tests.dqnkit.tuning.helpers import ask, make_definition
from tests.postgres import PostgresServer


def _make_foreign_study(storage: StudyStorage) -> None:
    study = optuna.create_study(storage=storage.open("theirs"), study_name="theirs")
    study.tell(study.ask(), 1.0)


def test_a_study_is_opened_again_with_its_trials(open_study: OpenStudy) -> None:
    first = open_study()
    first.tell(ask(first), 1.0)
    again = open_study()
    assert again.study.study_name == "searched-1"
    assert len(again.ended()) == 1
    assert again.get_attr(StudyAttr.OWNER) == identity.identity()


def test_a_study_that_is_opened_again_draws_other_values(open_study: OpenStudy) -> None:
    draws = []
    for _ in range(3):
        study = open_study()
        claims = [ask(study) for _ in range(2)]
        draws += [claim.values["optimizer.learning_rate"] for claim in claims]
        for claim in claims:
            study.fail(claim.number, "it broke")
    assert len(set(draws)) == 6


def test_another_definition_is_refused_with_the_differences(open_study: OpenStudy) -> None:
    open_study()
    open_study(5, "searched-1", "description=Decides nothing.")
    for assignment, difference in (
        ("agent.gamma=0.5", "agent.gamma: 0.99 in the study, 0.5 here"),
        (
            "search.training.batch_size={type: int, low: 8, high: 16}",
            'search.training.batch_size: {"type": "categorical"',
        ),
    ):
        with pytest.raises(ArgumentError) as caught:
            open_study(5, "searched-1", assignment)
        assert caught.value.argument == "study"
        assert caught.value.value == "searched-1"
        assert difference in caught.value.problem


def test_a_study_of_another_program_is_refused(
    storage: StudyStorage, open_study: OpenStudy
) -> None:
    _make_foreign_study(storage)
    with pytest.raises(ArgumentError, match="dqnkit did not make this study"):
        open_study(5, "theirs")
    with pytest.raises(ArgumentError, match="dqnkit did not make this study"):
        catalog.find_definition(storage, "theirs")


def test_a_start_that_died_before_it_stored_the_definition_is_repeated(
    storage: StudyStorage, open_study: OpenStudy
) -> None:
    half_made = optuna.create_study(storage=storage.open("searched-1"), study_name="searched-1")
    definition = make_definition()
    half_made.enqueue_trial(definition.space.params(definition.config)[0])
    study = open_study()
    assert len(study.trials()) == 1
    assert study.configuration(ask(study).number) == definition.config


def test_a_definition_is_found_by_the_name_of_its_study(
    storage: StudyStorage, open_study: OpenStudy
) -> None:
    study = open_study(5, "searched-1", "search.agent.gamma={type: float, low: 0.9, high: 1.0}")
    assert catalog.find_definition(storage, "searched-1") == study.definition
    assert catalog.find_definition(storage, "nothing") is None


def test_the_newest_unfinished_study_of_a_definition_is_found(
    storage: StudyStorage, open_study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = make_definition()
    for name in ("searched-1", "searched-2", "searched-3", "other-4"):
        open_study(5, name)
    open_study(5, "searched-5", "agent.gamma=0.5")
    _make_foreign_study(storage)
    assert catalog.find_unfinished(storage, definition) is None  # this process works on them
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    assert catalog.find_unfinished(storage, definition) == "searched-3"
    open_study(5, "searched-3").set_attr(StudyAttr.WINNER, "name: searched")
    assert catalog.find_unfinished(storage, definition) == "searched-2"


def test_the_winner_is_read_from_the_study(storage: StudyStorage, open_study: OpenStudy) -> None:
    with pytest.raises(ConfigError, match=r"there is no study 'searched-1' in .*makes one"):
        catalog.load_winner(storage, "searched-1")
    study = open_study()
    with pytest.raises(ConfigError, match=r"no winner yet.*tune --study searched-1") as caught:
        catalog.load_winner(storage, "searched-1")
    assert ("--storage" in str(caught.value)) == (storage.url is not None)
    with pytest.raises(ConfigError, match=r"did you mean 'searched-1'.*it has searched-1"):
        catalog.load_winner(storage, "searched-2")
    study.set_attr(StudyAttr.WINNER, "name: searched")
    assert catalog.load_winner(storage, "searched-1") == "name: searched"


OPENER = """
import sys
from dqnkit.tuning import catalog, storage
from tests.dqnkit.tuning.helpers import make_definition, make_plan
definition = make_definition()
print("ready", flush=True)
sys.stdin.readline()
opened = storage.locate_storage(sys.argv[1])
study = catalog.open_study(opened, "together", definition, make_plan())
print([trial.state.name for trial in study.trials()])
"""


def test_processes_that_start_together_make_one_study(postgres: PostgresServer) -> None:
    """The database has no tables yet."""
    url = postgres.url(postgres.make_database())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert out.strip() == "['WAITING']"
