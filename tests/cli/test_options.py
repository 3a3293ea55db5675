from __future__ import annotations

import re
from typing import get_args

import pytest

from cli import options
from dqnkit.tracking import location, references
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.samplers import PrunerName, SamplerName
from dqnkit.workers.placement import LauncherName, Placement
from tests.cli.conftest import APP

PARAMETERS = {
    f"{name} {parameter.opts[0]}": parameter
    for name, command in APP.commands.items()
    for parameter in command.params
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_option_and_argument_has_a_help_of_complete_sentences(name: str) -> None:
    text = PARAMETERS[name].help
    assert text
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert not re.search(r"\s\s", text)


@pytest.mark.parametrize("name", APP.commands)
def test_every_command_has_a_help_of_complete_sentences(name: str) -> None:
    text = APP.commands[name].help
    assert text
    assert text[0].isupper()
    assert text.endswith(".")


def test_the_help_of_a_run_lists_the_forms_of_a_reference() -> None:
    assert references.FORMS[0].upper() + references.FORMS[1:] == options.RUN_HELP
    for name in ("eval run", "render run", "compare runs"):
        assert PARAMETERS[name].help.startswith(options.RUN_HELP)


def test_defaults_and_choices_are_those_of_the_library() -> None:
    assert options.AUTO == location.AUTO
    tune = {each.name: each for each in APP.commands["tune"].params}
    for chosen in (TuneOptions(), Placement()):
        for name, value in vars(chosen).items():
            if name != "placement":
                assert tune[name].default == value, name
    choices = {"sampler": SamplerName, "pruner": PrunerName, "launcher": LauncherName}
    for name, allowed in choices.items():
        assert tuple(tune[name].type_descriptor.choices) == get_args(allowed), name
