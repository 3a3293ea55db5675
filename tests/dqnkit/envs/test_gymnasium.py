from __future__ import annotations

from types import SimpleNamespace

import pytest

from dqnkit.envs import _gymnasium
from dqnkit.errors import UnsupportedEnvironmentError


def _install(monkeypatch: pytest.MonkeyPatch, version: str, *distributions: object) -> None:
    monkeypatch.setattr(_gymnasium.metadata, "version", lambda _: version)
    monkeypatch.setattr(_gymnasium.metadata, "distributions", lambda: distributions)


def test_an_old_version_names_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        SimpleNamespace(name="memory-gym", version="1.0", requires=["gymnasium==0.29", "numpy"]),
        SimpleNamespace(name="pleased", version="2.0", requires=["gymnasium>=0.26"]),
        SimpleNamespace(name="odd", version="3.0", requires=["not a requirement!", "gym<0.24"]),
        SimpleNamespace(name="bare", version="4.0", requires=None),
    ]
    _install(monkeypatch, "0.29", *others)
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        _gymnasium.check_version()
    message = str(caught.value)
    assert "gymnasium 0.29 is installed, and dqnkit needs 1.2 or newer" in message
    assert "asked for by memory-gym 1.0 (gymnasium==0.29): " in message
    assert "pleased" not in message


@pytest.mark.parametrize("version", ["1.2", "1.2.0", "1.10.1", "2.0.0a1"])
def test_a_new_enough_version_is_accepted(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, version)
    _gymnasium.check_version()


def test_the_needed_version_is_that_of_the_project() -> None:
    (requirement,) = [
        text
        for text in _gymnasium.metadata.requires("dqnkit") or ()
        if text.startswith("gymnasium") and "classic-control" in text
    ]
    assert f">={'.'.join(map(str, _gymnasium.NEEDED))}" in requirement
