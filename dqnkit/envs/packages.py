"""Packages that bring environments along: what registers their ids, and what installs them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any, NamedTuple

import gymnasium

from dqnkit.config.sections import EnvConfig


class _Family(NamedTuple):
    """Environments of one package."""

    pattern: str
    """Regular expression of their ids, without a module."""
    module: str
    """Module whose import registers them."""
    package: str
    """Name of the package for pip."""
    extra: str | None = None
    """Extra of dqnkit that installs it."""


_ATARI = (
    "AirRaid|Alien|Amidar|Assault|Asterix|Asteroids|Atlantis|BankHeist|BattleZone|BeamRider|"
    "Berzerk|Bowling|Boxing|Breakout|Carnival|Centipede|ChopperCommand|CrazyClimber|Defender|"
    "DemonAttack|DoubleDunk|ElevatorAction|Enduro|FishingDerby|Freeway|Frostbite|Gopher|Gravitar|"
    "Hero|IceHockey|Jamesbond|JourneyEscape|Kangaroo|Krull|KungFuMaster|MontezumaRevenge|MsPacman|"
    "NameThisGame|Phoenix|Pitfall|Pong|Pooyan|PrivateEye|Qbert|Riverraid|RoadRunner|Robotank|"
    "Seaquest|Skiing|Solaris|SpaceInvaders|StarGunner|Tennis|TimePilot|Tutankham|UpNDown|Venture|"
    "VideoPinball|WizardOfWor|YarsRevenge|Zaxxon"
)
"""Games that Gym had."""
_OLD_ATARI = re.compile(rf"(ALE/)?({_ATARI})(-ram)?(Deterministic|NoFrameskip)?(-v\d+)?")

_FAMILIES = (
    _Family(r"ALE/", "ale_py", "ale-py opencv-python-headless", "atari"),
    _Family(r"MinAtar/", "minatar", "minatar", "minatar"),
    _Family(r"(MiniGrid|BabyAI)-", "minigrid", "minigrid"),
    _Family(
        r"(highway|merge|roundabout|parking|intersection|racetrack|exit|u-turn|two-way)-",
        "highway_env",
        "highway-env",
    ),
    _Family(r"mo-", "mo_gymnasium", "mo-gymnasium"),
    _Family(r"Vizdoom", "vizdoom.gymnasium_wrapper", "vizdoom"),
    _Family(r"NetHack", "nle", "nle"),
    _Family(r"FlappyBird-", "flappy_bird_gymnasium", "flappy-bird-gymnasium"),
    _Family(r"MortarMayhem|MysteryPath|SearingSpotlights", "memory_gym", "memory-gym"),
)


def register(env_id: str) -> None:
    """Import the module that an id names, or the package of ALE, MinAtar or Gym's Atari games."""
    module, colon, _ = env_id.partition(":")
    if colon:
        importlib.import_module(module)
        return
    namespace, slash, _ = env_id.partition("/")
    if env_id not in gymnasium.registry and not slash and _OLD_ATARI.fullmatch(env_id):
        namespace = "ALE"
    elif any(spec.namespace == namespace for spec in gymnasium.registry.values()):
        return
    if namespace == "ALE":
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner on stderr
        gymnasium.register_envs(ale_py)
    elif namespace == "MinAtar":
        importlib.import_module("minatar.gym").register_envs()


def advice_for(env_id: str) -> str | None:
    """Return what to do about an unknown id of a common family; None for other ids."""
    name = env_id.rpartition(":")[2]
    atari = _OLD_ATARI.fullmatch(name)
    if atari is not None:
        _, game, ram, variant, _ = atari.groups()
        advice = f"the game's id is 'ALE/{game}-v5'"
        kwargs = ["obs_type=ram"] * bool(ram) + ["frameskip=1"] * (variant == "NoFrameskip")
        if kwargs:
            advice += f", with {' and '.join(f'env.kwargs.{each}' for each in kwargs)}"
        return advice
    family = next((each for each in _FAMILIES if re.match(each.pattern, name)), None)
    if family is None:
        return None
    with_module = f"write env.id={family.module}:{name}, which imports the package that has it"
    if _is_installed(family.module):
        return with_module if ":" not in env_id else None
    return f"{install(family.package, family.extra)}, and {with_module}"


def install(package: str, extra: str | None) -> str:
    """Return how to install a package, by an extra of dqnkit if one has it."""
    if extra is None:
        return f"install its package by `pip install {package}`"
    return (
        f"install the extra {extra!r}, in a checkout by `uv sync --extra {extra}` (or `uv run "
        f"--extra {extra} dqnkit …` for one command), elsewhere by `pip install {package}`"
    )


def true_score_kwargs(env: EnvConfig, given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments that a vector class needs to give the rewards of the game itself.

    Args:
      env: Configuration of the training environment.
      given: Arguments that are set for evaluation already.
    """
    is_atari = env.id.rpartition(":")[2].startswith("ALE/")
    if not is_atari or env.vectorization != "vector_entry_point" or "reward_clipping" in given:
        return {}
    # ale_py's AtariVectorEnv clips by default.
    return {"reward_clipping": False} if env.kwargs.get("reward_clipping", True) else {}


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # of the package around a submodule
        return False
