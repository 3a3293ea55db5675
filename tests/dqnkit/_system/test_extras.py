from __future__ import annotations

from importlib import metadata

import pytest

from dqnkit._system import extras
from dqnkit.errors import ConfigError


@pytest.fixture
def _without_reverb(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)


def test_reverb_is_found_by_its_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(metadata, "version", lambda name: asked.append(name) or "0.14.0")
    extras.check_installed("dqnkit actor")
    assert asked == ["dm-reverb"]


@pytest.mark.usefixtures("_without_reverb")
def test_a_command_that_needs_reverb_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError) as raised:
        extras.check_installed("dqnkit actor")
    message = str(raised.value)
    assert message.startswith("dqnkit actor: DeepMind's Reverb is not installed")
    assert f"`{extras.INSTALL_COMMAND}`" in message
    assert "replay.kind" not in message


@pytest.mark.usefixtures("_without_reverb")
def test_a_setting_that_needs_reverb_names_the_alternatives() -> None:
    with pytest.raises(ConfigError, match=r"set replay\.kind to uniform or prioritized"):
        extras.check_installed("replay.kind=reverb")


def test_several_runs_cannot_share_a_replay_server() -> None:
    extras.check_server_not_shared(None, "a search")
    with pytest.raises(ConfigError, match=r"^a search with replay\.address=a:1: a replay server"):
        extras.check_server_not_shared("a:1", "a search")
