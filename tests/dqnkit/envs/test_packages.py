from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec

import gymnasium
import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import packages
from dqnkit.envs.factory import make_env
from dqnkit.errors import UnsupportedEnvironmentError


@pytest.mark.parametrize(
    ("env_id", "advice"),
    [
        ("ALE/PongNoFrameskip-v4", "the game's id is 'ALE/Pong-v5', with env.kwargs.frameskip=1"),
        ("Pong-v9", "the game's id is 'ALE/Pong-v5'"),
        (
            "Breakout-ramNoFrameskip-v7",
            "the game's id is 'ALE/Breakout-v5', with env.kwargs.obs_type=ram and "
            "env.kwargs.frameskip=1",
        ),
        (
            "MiniGrid-Empty-5x5-v0",
            "install its package by `pip install minigrid`, and write "
            "env.id=minigrid:MiniGrid-Empty-5x5-v0, which imports the package that has it",
        ),
        ("highway-fast-v0", "pip install highway-env`, and write env.id=highway_env:highway-fast-"),
        ("mo-lunar-lander-v3", "env.id=mo_gymnasium:mo-lunar-lander-v3"),
        ("VizdoomBasic-v1", "env.id=vizdoom.gymnasium_wrapper:VizdoomBasic-v1"),
        ("minigrid:MiniGrid-Empty-5x5-v0", "pip install minigrid"),
    ],
)
def test_an_unknown_id_of_a_common_family_names_its_package(env_id: str, advice: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        make_env(EnvConfig(id=env_id))
    assert advice in str(caught.value)
    assert repr(env_id) in str(caught.value)


def test_an_installed_package_needs_only_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    assert packages.advice_for("MiniGrid-Empty-5x5-v0") == (
        "write env.id=minigrid:MiniGrid-Empty-5x5-v0, which imports the package that has it"
    )
    assert packages.advice_for("minigrid:MiniGrid-Nothing-v0") is None


@pytest.mark.parametrize("env_id", ["CartPole-v9", "my_module:Thing-v0", "Ponge-v4", "ns/Pong-v0"])
def test_other_ids_have_no_advice(env_id: str) -> None:
    assert packages.advice_for(env_id) is None


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "Pong-v4", "ALE/Pong-v5"])
def test_atari_games_are_found_by_all_their_ids(env_id: str) -> None:
    env = make_env(EnvConfig(id=env_id))
    assert env.observation_space.shape == (210, 160, 3)
    env.close()


@pytest.mark.parametrize("id_and_module", [("ALE/Pong-v5", "ale_py"), ("Pong-v4", "ale_py")])
def test_a_missing_extra_is_named(
    id_and_module: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env_id, missing = id_and_module
    monkeypatch.setattr(
        gymnasium, "registry", {k: v for k, v in gymnasium.registry.items() if "Pong" not in k}
    )
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", gymnasium.spec("CartPole-v1"))

    def import_module(name: str, *_: object) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for spec in [k for k in gymnasium.registry if k.startswith("ALE/")]:
        monkeypatch.delitem(gymnasium.registry, spec)
    monkeypatch.setattr(packages.importlib, "import_module", import_module)
    with pytest.raises(UnsupportedEnvironmentError, match="install the extra 'atari'") as caught:
        make_env(EnvConfig(id=env_id))
    assert missing not in str(caught.value).replace("ale-py", "")
