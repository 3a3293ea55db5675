"""Messages of the library name arguments, which the command line shows as its options."""

from __future__ import annotations

import ast
import re
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cli import messages
from dqnkit.config import loading
from dqnkit.errors import ArgumentError, ConfigError
from tests.cli.conftest import APP, Run, assert_misused
from tests.conftest import ROOT
from tests.runs import make_store, record
from tests.servers import free_port

COMMANDS = sorted(APP.commands)

# -- Translation


def test_an_argument_error_begins_with_the_option() -> None:
    messages.set_command(APP, "render")
    error = ArgumentError("max_steps", 0, "expected a number from 1 to 9")
    assert str(error) == "max_steps=0: expected a number from 1 to 9"
    assert messages.explain(error) == "--max-steps 0: expected a number from 1 to 9"


def test_arguments_in_backticks_become_options_also_in_notes() -> None:
    messages.set_command(APP, "runs")
    error = ConfigError("give `tracking_uri`, or run `dqnkit train`; `nothing` is not an option")
    error.add_note("see `limit`")
    assert messages.explain(error) == (
        "give --tracking-uri, or run `dqnkit train`; `nothing` is not an option\nsee --limit"
    )


@pytest.mark.parametrize(
    ("command", "argument", "option"),
    [
        ("train", "num_seeds", "--seeds"),
        ("train", "run", "--resume"),
        ("train", "study", "--from-study"),
        ("tune", "study", "--study"),
        ("render", "output", "--output"),
        ("render", "video_format", "--format"),
        ("ui", "browser", "--open"),
    ],
)
def test_options_are_found_by_the_names_of_arguments(
    command: str, argument: str, option: str
) -> None:
    assert messages.options_of(APP, command)[argument] == option


def test_an_argument_without_an_option_keeps_its_name() -> None:
    messages.set_command(APP, "eval")
    assert "run" not in messages.options_of(APP, "eval")
    assert messages.explain(ArgumentError("run", "x", "no")) == "run=x: no"
    assert messages.options_of(APP, "none") == messages.options_of(APP, None) == {}
    messages.set_command(APP, None)
    assert messages.name_options("`tracking_uri`") == "`tracking_uri`"


# -- Every error about an argument that the command line can cause

TUNE = ("tune", "tutorial")
RAY = ("train", "--seeds", "2", "--launcher", "ray")
CAUSES = [
    ("num_seeds", ("train", "--seeds", "0"), "--seeds 0: expected a number from 1 to 1,000"),
    ("workers", ("train", "--seeds", "2", "--workers", "0"), "--workers 0: "),
    ("workers", (*TUNE, "--workers", "2000"), "--workers 2000: "),
    ("cpus", ("train", "--cpus", "2"), "--cpus 2.0: applies only to a Ray cluster"),
    ("cpus", (*RAY, "--cpus", "0"), "--cpus 0: "),
    (
        "gpus",
        (*TUNE, "--gpus", "0.5"),
        "--gpus 0.5: applies only to a Ray cluster; choose ",
    ),
    ("gpus", (*RAY, "--gpus", "-1"), "--gpus -1: "),
    ("ray_address", ("train", "--ray-address", "a:1"), "--ray-address a:1: "),
    ("ray_address", (*RAY, "--ray-address", "nowhere"), "--ray-address 'nowhere': "),
    ("ray_address", (*RAY, "--ray-address", "ray://a:1"), "--ray-address ray://a:1: "),
    ("storage", ("train", "--from-study", "s", "--storage", "here"), "--storage 'here': "),
    ("storage", (*TUNE, "--storage", "here"), "--storage 'here': expected the URL"),
    ("study", (*TUNE, "--study", "../x"), "--study '../x': "),
    ("trials", (*TUNE, "--trials", "0"), "--trials 0: "),
    ("timeout", (*TUNE, "--timeout", "0"), "--timeout 0.0: "),
    ("timeout", (*TUNE, "--timeout", "nan"), "--timeout nan: "),
    ("seeds_per_trial", (*TUNE, "--seeds-per-trial", "0"), "--seeds-per-trial 0: "),
    ("confirm", (*TUNE, "--confirm", "-1"), "--confirm -1: "),
    ("promote", (*TUNE, "--confirm", "0", "--promote"), "--promote: without"),
    ("sampler", (*TUNE, "--sampler", "grid"), "--sampler grid: search."),
    ("pruner", (*TUNE, "--pruner", "wilcoxon"), "--pruner wilcoxon: "),
    ("episodes", ("eval", "latest", "--episodes", "0"), "--episodes 0: "),
    ("episodes", ("eval", "latest", "--episodes", "-5"), "--episodes -5: expected a number from 1"),
    ("seed", ("eval", "latest", "--seed", "-1"), "--seed -1: "),
    ("episodes", ("render", "latest", "--episodes", "0"), "--episodes 0: "),
    ("seed", ("render", "latest", "--seed", "-1"), "--seed -1: "),
    ("fps", ("render", "latest", "--fps", "0"), "--fps 0.0: "),
    ("max_steps", ("render", "latest", "--max-steps", "0"), "--max-steps 0: "),
    ("output", ("render", "latest", "-o", "a.avi"), "--output a.avi: "),
    ("output", ("compare", "latest", "-o", "file/x"), "--output file/x: cannot be written"),
    ("limit", ("runs", "--limit", "0"), "--limit 0: "),
    ("sort", ("runs", "--sort", "nothing"), "--sort nothing: no run has this metric"),
]
"""Argument of the library, command line, and the beginning of the message."""

ELSEWHERE = {
    "baseline": "Typer accepts only random",
    "checkpoints": "tests/cli/test_replay_server.py, for it needs Reverb",
    "host": "tests/cli/test_replay_server.py, for it needs Reverb",
    "launcher": "needs a system without Ray, or a cluster of several nodes (tests/test_ray.py)",
    "overrides": "the command line gives texts of the right form (tests/cli/test_loading.py)",
    "port": "test_a_port_in_use_begins_with_the_option",
    "run": "tests/cli/test_train.py, after a training",
    "tracking_uri": "never None on the command line",
}
"""Arguments that `CAUSES` lacks, and why."""

VARIABLES = {
    ("analysis/video.py", "name"): {"episodes", "seed", "fps", "max_steps"},
    ("workers/placement.py", "each.name"): {"ray_address", "cpus", "gpus"},
    ("workers/ray_cluster.py", "argument"): {"cpus", "gpus"},
    ("workers/seeds.py", "argument"): {
        *("num_seeds", "workers"),
        *("trials", "seeds_per_trial", "confirm"),
    },
}
"""Values of the expressions that name arguments, by module."""


@pytest.mark.parametrize(("argument", "command", "beginning"), CAUSES, ids=str)
def test_an_error_about_an_argument_begins_with_its_option(
    run: Run, argument: str, command: tuple[str, ...], beginning: str
) -> None:
    record(finals=[1.0, 2.0])
    Path("file").touch()
    before = sorted(Path.cwd().rglob("*"))
    assert_misused(run(*command), f"error: {beginning}")
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_port_in_use_begins_with_the_option(run: Run) -> None:
    make_store()
    with socket.socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        assert_misused(run("ui", "--port", str(port)), f"error: --port {port}: the port is in use")


def test_every_error_about_an_argument_is_among_the_causes() -> None:
    named: set[str] = set()
    for module, tree in _library().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ArgumentError":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    named.add(first.value)
                else:
                    named |= VARIABLES[module, ast.unparse(first)]
    assert named == {argument for argument, *_ in CAUSES} | set(ELSEWHERE)


# -- The library's texts


@cache
def _library() -> dict[str, ast.Module]:
    """Return the syntax trees of the library's modules by their paths."""
    return {
        path.relative_to(ROOT / "dqnkit").as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in (ROOT / "dqnkit").rglob("*.py")
    }


def _texts(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module, with `{}` in place of the expressions of f-strings."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            yield "".join(
                str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.value


def _options(text: str) -> set[str]:
    """Return the options that a text names outside of complete commands such as `dqnkit ui`."""
    text = re.sub(r"`dqnkit [^`]*`", "", text)
    return set(re.findall(r"(?:^|(?<=[\s`'\"(]))--[a-z{][a-z{}-]*", text))


OF_OTHER_PROGRAMS = {
    "_system/commands.py": {"--{}", "--no-{}"},  # makes the lines of complete commands
    "_system/extras.py": {"--extra", "--no-default-groups", "--python"},  # uv, to install Reverb
    "_system/tensorflow.py": {"--{}"},  # XLA_FLAGS
    "envs/packages.py": {"--extra"},  # uv, to install an environment
    "runs/descriptions.py": {"--porcelain"},  # git
    "tracking/client.py": {"--allowed-hosts", "--experiment-id"},  # of `mlflow`
    "tracking/store.py": {"--run-id"},  # `mlflow runs restore`
    "tracking/ui.py": {  # MLflow's server
        *("--default-artifact-root", "--host", "--no-serve-artifacts", "--port", "--workers"),
    },
    "tuning/storage.py": {"--with"},  # uvx
    "workers/ray_cluster.py": {"--head"},  # `ray start`
}
"""Options of other programs that texts of the library name, by module."""


def test_the_library_names_no_option_of_the_command_line() -> None:
    found = {
        module: options
        for module, tree in _library().items()
        if (options := set().union(*map(_options, _texts(tree))))
    }
    assert found == OF_OTHER_PROGRAMS


def test_options_are_found_in_texts() -> None:
    assert _options("give --seeds K or `--set`, 3 -- 4, a--b; see `dqnkit train --resume x`") == {
        *("--seeds", "--set")
    }
    assert _options("--{} x") == {"--{}"}


def test_every_argument_in_a_message_has_an_option() -> None:
    options = {name for command in COMMANDS for name in messages.options_of(APP, command)}
    for module, tree in _library().items():
        docs = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"`([a-z_]+)`", node.value))
                assert id(node) in docs or named <= options, f"{module}:{node.lineno}"


def test_a_key_of_the_configuration_is_not_taken_for_an_argument(run: Run) -> None:
    """`name` is an option of `train`, and a key: messages about the key have no backticks."""
    with pytest.raises(ConfigError) as caught:
        loading.default_config("x", ["name=a/b"])
    messages.set_command(APP, "train")
    assert messages.explain(caught.value) == str(caught.value)
