"""Wrong use of `dqnkit replay-server`, `dqnkit actor` and `dqnkit train` with actors."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from cli.main import run
from tests.dqnkit.replay.host_replays import needs_reverb
from tests.servers import free_port

COMMANDS = [
    ("train", "tutorial-reverb"),
    ("train", "tutorial-reverb", "--actors", "2"),
    ("train", "tutorial-reverb", "--seeds", "2"),
    ("train", "cartpole", "--set", "replay.kind=reverb"),
    ("tune", "tutorial-reverb", "--trials", "2"),
    ("replay-server",),
    ("actor", "--connect", "127.0.0.1:1"),
]


@pytest.mark.skipif(find_spec("reverb") is not None, reason="Reverb is installed")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_reverb_a_message_says_how_to_install_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    message = capsys.readouterr().err
    assert message.count("error:") == 1
    assert "--extra reverb --no-default-groups" in message
    assert "CPython 3.11" in message


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("train", "tutorial", "--actors", "2"), ["training.num_actors=2", "replay.kind=reverb"]),
        (("train", "--actors", "2", "--resume", "x"), ["--resume x", "--actors"]),
        (
            ("train", "tutorial-reverb", "--seeds", "2", "--set", "replay.address=a:1"),
            ["several seeds with replay.address=a:1", "one run"],
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
def test_wrong_use_gives_one_message(
    command: tuple[str, ...], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    message = capsys.readouterr().err
    for part in parts:
        assert part in message


@needs_reverb
@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (("replay-server", "tutorial"), ["replay.kind=uniform", "needs no server"]),
        (("replay-server", "--host", "10.1.2.3"), ["--host 10.1.2.3: ", "0.0.0.0"]),
        (("replay-server", "--set", "replay.kin=reverb"), ["did you mean 'kind'"]),
        (("actor", "--connect", "nowhere"), ["--connect nowhere: ", "HOST:PORT"]),
        (("actor", "--connect", "a:99999"), ["--connect a:99999: ", "HOST:PORT"]),
        (("replay-server", "--checkpoints", "/proc/no"), ["--checkpoints /proc/no: "]),
        (("train", "tutorial-reverb", "--set", "replay.address=a"), ["'a'", "HOST:PORT"]),
        (("actor", "--connect", "a b:1"), ["--connect a b:1: ", "HOST:PORT"]),
        (("train", "tutorial-reverb", "--actors", "0"), ["num_actors=0", "replay-server"]),
    ],
    ids=str,
)
def test_wrong_use_with_reverb_gives_one_message(
    command: tuple[str, ...], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    message = capsys.readouterr().err
    assert message.count("error:") == 1
    for part in parts:
        assert part in message


@needs_reverb
def test_an_address_without_a_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    remote = ("--set", f"replay.address={address}")
    for command in (
        ("actor", "--connect", address, "--patience", "0"),
        ("train", "tutorial-reverb", *remote),
        ("train", "tutorial-reverb", "--actors", "0", *remote),
    ):
        assert run(command) == 1
        message = capsys.readouterr().err
        assert f"{address} does not answer" in message
        assert "replay-server" in message
    assert run(("runs", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == []
