"""Environments that run in the graph loop, and their dynamics."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import transition_table

if TYPE_CHECKING:  # at run time, TensorFlow is imported only when dynamics are made
    from dqnkit.envs.dynamics import Dynamics


NO_LIMIT = 2**31 - 1
"""Time limit of environments without one, more steps than any episode has. In Gymnasium,
`max_episode_steps=-1` removes the limit."""


def _make_from_equations(path: str, *, config: EnvConfig, **parameters: Any) -> Dynamics:
    module, _, name = path.partition(":")
    limit = config.kwargs.get("max_episode_steps")
    if limit is not None:
        parameters["max_episode_steps"] = NO_LIMIT if limit == -1 else limit
    dynamics: Dynamics = getattr(importlib.import_module(module), name)(**parameters)
    return dynamics


def _make_from_table(config: EnvConfig) -> Dynamics:
    from dqnkit.envs.tabular import Tabular  # imports TensorFlow, which takes seconds

    table = transition_table.transition_table(config)
    return Tabular(config.id, table, table.max_episode_steps or NO_LIMIT)


_CARTPOLE = partial(_make_from_equations, "dqnkit.envs.cartpole:CartPole")

_BY_EQUATIONS = {
    "CartPole-v0": partial(_CARTPOLE, id="CartPole-v0", max_episode_steps=200),
    "CartPole-v1": partial(_CARTPOLE, id="CartPole-v1", max_episode_steps=500),
    "MountainCar-v0": partial(_make_from_equations, "dqnkit.envs.mountain_car:MountainCar"),
    "Acrobot-v1": partial(_make_from_equations, "dqnkit.envs.acrobot:Acrobot"),
}
_BY_TABLE = (
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    "Taxi-v4",
)

_REWARDS = {
    "CartPole-v0": (1.0, 1.0),
    "CartPole-v1": (1.0, 1.0),
    "MountainCar-v0": (-1.0, -1.0),
    "Acrobot-v1": (-1.0, 0.0),
}
"""Least and greatest reward of a step."""

GRAPH_ENVIRONMENTS = (*_BY_EQUATIONS, *_BY_TABLE)
"""Ids of the environments that are implemented as TensorFlow operations."""


def why_not_in_graph(config: EnvConfig) -> str | None:
    """Return why an environment cannot run in the graph loop as configured, None if it can."""
    return next(_objections(config), None)


def _objections(config: EnvConfig) -> Iterator[str]:
    if config.id not in GRAPH_ENVIRONMENTS:
        yield (
            f"{config.id!r} is not implemented as TensorFlow operations (implemented are "
            f"{', '.join(GRAPH_ENVIRONMENTS)})"
        )
    if config.wrappers:
        yield f"env.wrappers contains {config.wrappers[0].path}, and wrappers run in Python"
    if config.frame_stack > 1:
        yield f"env.frame_stack is {config.frame_stack}, and frames are stacked in Python"
    if config.vectorization != "sync":
        yield f"env.vectorization is {config.vectorization}, and the graph loop needs sync"
    changed = sorted(set(config.kwargs) - {"max_episode_steps"})
    if config.id in _BY_EQUATIONS and changed:
        yield f"its TensorFlow implementation does not support env.kwargs.{changed[0]}"
    if config.kwargs.get("fickle_passenger"):
        yield "env.kwargs.fickle_passenger is not part of Taxi's transition table"


def return_range(config: EnvConfig, gamma: float) -> tuple[float, float] | None:
    """Return bounds of the discounted return, or None if they are unknown.

    For environments given by equations, the bounds are those of an endless sequence of the least
    or the greatest reward, because the return is bootstrapped at a time limit. Rewards of a
    transition table may occur only once per episode: see `transition_table.return_range`.

    Args:
      config: Configuration of the environment.
      gamma: Discount.
    """
    # Frame stacks and vectorization do not change rewards.
    plain = config.model_copy(update={"frame_stack": 1, "vectorization": "sync"})
    if gamma == 1.0 or why_not_in_graph(plain) is not None:
        return None
    if plain.id in _BY_TABLE:
        return transition_table.return_range(transition_table.transition_table(plain), gamma)
    low, high = _REWARDS[plain.id]
    return min(0.0, low) / (1.0 - gamma), max(0.0, high) / (1.0 - gamma)


def make_dynamics(config: EnvConfig) -> Dynamics:
    """Return the dynamics of an environment for which `why_not_in_graph` is None.

    Equal configurations give the same object, so that functions compiled for it are reused.
    """
    return _dynamics(config.model_dump_json())


@cache
def _dynamics(document: str) -> Dynamics:
    config = EnvConfig.model_validate_json(document)
    if config.id in _BY_TABLE:
        return _make_from_table(config)
    return _BY_EQUATIONS[config.id](config=config)
