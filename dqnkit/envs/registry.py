"""From an environment id to its dynamics in the graph."""

from __future__ import annotations

from dqnkit.envs import gymnasium_ids
from dqnkit.envs.acrobot import Acrobot
from dqnkit.envs.cartpole import CartPole
from dqnkit.envs.dynamics import Dynamics
from dqnkit.envs.mountain_car import MountainCar
from dqnkit.errors import UnsupportedEnvironmentError

GRAPH_ENVIRONMENTS: dict[str, Dynamics] = {
    dynamics.id: dynamics
    for dynamics in (
        CartPole("CartPole-v0", max_episode_steps=200),
        CartPole("CartPole-v1", max_episode_steps=500),
        MountainCar(),
        Acrobot(),
    )
}


def make(env_id: str) -> Dynamics:
    """The dynamics of a Gymnasium id.

    Raises:
      UnsupportedEnvironmentError: Gymnasium does not know the id, its actions are not discrete,
        or it has no version in the graph.
    """
    if env_id in GRAPH_ENVIRONMENTS:
        return GRAPH_ENVIRONMENTS[env_id]
    gymnasium_ids.check_discrete_actions(env_id)
    raise UnsupportedEnvironmentError(
        f"env.id: {env_id!r} exists in Gymnasium but does not run in the graph; "
        f"environments that do: {', '.join(GRAPH_ENVIRONMENTS)}"
    )
