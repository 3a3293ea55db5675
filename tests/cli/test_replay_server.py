"""`dqnkit replay-server`, `actor` and `train --actors`: what is asked for in vain."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from cli.main import run
from tests.dqnkit.replay.host_replays import needs_reverb
from tests.servers import free_port

ASKING = [
    ("train", "tutorial-reverb"),
    ("train", "tutorial-reverb", "--actors", "2"),
    ("train", "tutorial-reverb", "--seeds", "2"),
    ("train", "cartpole", "--set", "replay.kind=reverb"),
    ("tune", "tutorial-reverb", "--trials", "2"),
    ("replay-server",),
    ("actor", "--connect", "127.0.0.1:1"),
]


@pytest.mark.skipif(find_spec("reverb") is not None, reason="Reverb is installed")
@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_without_reverb_it_says_how_to_get_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert "--extra reverb --no-default-groups" in said
    assert "CPython 3.11" in said


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("train", "tutorial", "--actors", "2"), ["training.num_actors=2", "replay.kind=reverb"]),
        (("train", "--actors", "2", "--resume", "x"), ["--resume x", "--actors"]),
        (
            ("train", "tutorial-reverb", "--seeds", "2", "--set", "replay.address=a:1"),
            ["--seeds 2 with replay.address=a:1", "one run"],
        ),
        (
            ("tune", "tutorial-reverb", "--trials", "2", "--set", "replay.address=a:1"),
            ["a search with replay.address=a:1", "one run"],
        ),
        (("train", "--actors", "-1"), ["--actors", "Invalid value"]),
        (("actor",), ["--connect"]),
        (("replay-server", "--port", "0"), ["--port", "Invalid value"]),
    ],
    ids=str,
)
def test_wrong_use_is_one_message(
    command: tuple[str, ...], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said


@needs_reverb
@pytest.mark.parametrize(
    ("command", "code", "parts"),
    [
        (("replay-server", "tutorial"), 2, ["replay.kind=uniform", "needs no server"]),
        (("replay-server", "--host", "10.1.2.3"), 2, ["--host 10.1.2.3", "0.0.0.0"]),
        (("replay-server", "--set", "replay.kin=reverb"), 2, ["did you mean 'kind'"]),
        (("actor", "--connect", "nowhere"), 2, ["--connect nowhere", "HOST:PORT"]),
        (("actor", "--connect", "a:99999"), 2, ["--connect a:99999", "HOST:PORT"]),
        (("replay-server", "--checkpoints", "/proc/no"), 2, ["--checkpoints /proc/no"]),
        (("train", "tutorial-reverb", "--set", "replay.address=a"), 2, ["'a'", "HOST:PORT"]),
        (("actor", "--connect", "a b:1"), 2, ["--connect a b:1", "HOST:PORT"]),
        (("train", "tutorial-reverb", "--actors", "0"), 2, ["num_actors=0", "replay-server"]),
    ],
    ids=str,
)
def test_wrong_use_with_reverb_is_one_message(
    command: tuple[str, ...], code: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == code
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    for part in parts:
        assert part in said


@needs_reverb
def test_nobody_at_the_address_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    there = ("--set", f"replay.address={nobody}")
    for command in (
        ("actor", "--connect", nobody, "--patience", "0"),
        ("train", "tutorial-reverb", *there),
        ("train", "tutorial-reverb", "--actors", "0", *there),
    ):
        assert run(command) == 1
        said = capsys.readouterr().err
        assert f"{nobody} does not answer" in said
        assert "replay-server" in said
    assert run(("runs", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == []
