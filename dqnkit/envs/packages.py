"""Packages that bring environments along: what registers their ids, and what installs them."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium

from dqnkit.config.sections import EnvConfig

_REGISTERED_BY = {"ALE": "ale_py", "MinAtar": "minatar"}
"""Modules that register the ids of a namespace."""


def register(env_id: str) -> None:
    """Import the package that registers an id's namespace, such as ALE of `ALE/Pong-v5`."""
    namespace, slash, _ = env_id.rpartition(":")[2].partition("/")
    if not slash or namespace not in _REGISTERED_BY:
        return
    if any(spec.namespace == namespace for spec in gymnasium.registry.values()):
        return
    if namespace == "ALE":
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner on stderr
        gymnasium.register_envs(ale_py)
    else:
        importlib.import_module("minatar.gym").register_envs()


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
