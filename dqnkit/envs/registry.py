"""From an environment id to its dynamics in the graph."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from dqnkit.envs import gymnasium_ids
from dqnkit.errors import UnsupportedEnvironmentError

if TYPE_CHECKING:  # imports TensorFlow, which a check of an id need not wait for
    from dqnkit.envs.dynamics import Dynamics


def _dynamics(home: str, **parameters: Any) -> Dynamics:
    module, _, name = home.partition(":")
    dynamics: Dynamics = getattr(importlib.import_module(module), name)(**parameters)
    return dynamics


_CARTPOLE = partial(_dynamics, "dqnkit.envs.cartpole:CartPole")

GRAPH_ENVIRONMENTS = {
    "CartPole-v0": partial(_CARTPOLE, id="CartPole-v0", max_episode_steps=200),
    "CartPole-v1": partial(_CARTPOLE, id="CartPole-v1", max_episode_steps=500),
    "MountainCar-v0": partial(_dynamics, "dqnkit.envs.mountain_car:MountainCar"),
    "Acrobot-v1": partial(_dynamics, "dqnkit.envs.acrobot:Acrobot"),
}
"""What makes the dynamics of each id that runs in the graph."""


def check(env_id: str) -> None:
    """Looks whether an environment can be trained in; quick, and without TensorFlow.

    Raises:
      UnsupportedEnvironmentError: Gymnasium does not know the id, its actions are not discrete,
        or it has no version in the graph.
    """
    if env_id in GRAPH_ENVIRONMENTS:
        return
    gymnasium_ids.check_discrete_actions(env_id)
    raise UnsupportedEnvironmentError(
        f"env.id: {env_id!r} exists in Gymnasium but does not run in the graph; "
        f"environments that do: {', '.join(GRAPH_ENVIRONMENTS)}"
    )


def make(env_id: str) -> Dynamics:
    """The dynamics of an id; raises what `check` raises."""
    check(env_id)
    return GRAPH_ENVIRONMENTS[env_id]()
