from __future__ import annotations

import json
from pathlib import Path

from dqnkit.config import loading
from tests.cli.conftest import Run, assert_misused


def test_experiments_are_listed_in_a_table(run: Run) -> None:
    code, out, err = run("experiments")
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["experiment", "environment", "description"]
    assert [line.split()[0] for line in lines] == loading.experiment_names()
    config = loading.load("mountain-car")
    (line,) = (line for line in lines if line.startswith("mountain-car "))
    assert line[header.index("environment") :].startswith("MountainCar-v0 ")
    assert line[header.index("description") :] == config.description
    assert json.loads(run("experiments", "--json")[1])["mountain-car"] == {
        "env": "MountainCar-v0",
        "description": config.description,
    }


def test_the_configuration_of_one_can_be_loaded_again(run: Run) -> None:
    _, out, _ = run("experiments", "tutorial")
    Path("copy.yaml").write_text(out, encoding="utf-8")
    assert run("experiments", "copy.yaml")[1] == out
    assert json.loads(run("experiments", "tutorial", "--json")[1])["env"]["id"] == "CartPole-v0"


def test_an_unknown_experiment_is_one_message(run: Run) -> None:
    assert_misused(run("experiments", "nothing"), "'nothing'", "give the path of a YAML file")


def test_the_schema_is_that_of_the_configuration(run: Run) -> None:
    assert json.loads(run("schema")[1])["title"] == "Config"
