from __future__ import annotations

import re
from importlib import import_module
from typing import get_args

import pytest
import typer

from cli import main, options
from dqnkit.tracking import location, references
from dqnkit.tuning.options import TuneOptions
from dqnkit.tuning.samplers import PrunerName, SamplerName
from dqnkit.workers.placement import LauncherName, Placement

APP = typer.main.get_command(main.app)
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
    for name in ("eval RUN", "render RUN", "compare RUN"):
        parameter = PARAMETERS[name.replace("RUN", "runs" if "compare" in name else "run")]
        assert parameter.help.startswith(options.RUN_HELP)


def test_defaults_and_choices_are_those_of_the_library() -> None:
    assert options.AUTO == location.AUTO
    tune = {each.name: each for each in APP.commands["tune"].params}
    for chosen in (TuneOptions(), Placement()):
        for name, value in vars(chosen).items():
            if name != "placement":
                assert tune[name].default == value, name
    for name, choices in (
        *(("sampler", SamplerName), ("pruner", PrunerName), ("launcher", LauncherName)),
    ):
        assert tuple(tune[name].type_descriptor.choices) == get_args(choices)


def test_options_of_several_commands_are_the_same_everywhere() -> None:
    shared = {id(getattr(options, name)): name for name in vars(options) if name[0].isupper()}
    assert len(shared) > 10
    for name in ("train", "tune", "eval", "render", "compare", "runs", "sync", "ui"):
        module = import_module(f"cli.{name}")
        source = module.__loader__.get_source(module.__name__)
        assert "--tracking-uri" not in source.replace("and --tracking-uri chooses", "")
        assert "tracking_uri: options.TrackingUri" in source
