"""Which environments run in the graph, and their dynamics there."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from dqnkit.config.sections import EnvConfig
from dqnkit.envs import transition_table

if TYPE_CHECKING:  # imports TensorFlow, which a look at an id need not wait for
    from dqnkit.envs.dynamics import Dynamics


NO_LIMIT = 2**31 - 1
"""Steps that no episode reaches; -1 asks Gymnasium for it."""


def _equations(home: str, *, config: EnvConfig, **parameters: Any) -> Dynamics:
    module, _, name = home.partition(":")
    limit = config.kwargs.get("max_episode_steps")
    if limit is not None:
        parameters["max_episode_steps"] = NO_LIMIT if limit == -1 else limit
    dynamics: Dynamics = getattr(importlib.import_module(module), name)(**parameters)
    return dynamics


def _table(config: EnvConfig) -> Dynamics:
    from dqnkit.envs.tabular import Tabular  # imports TensorFlow

    table = transition_table.transition_table(config)
    return Tabular(config.id, table, table.max_episode_steps or NO_LIMIT)


_CARTPOLE = partial(_equations, "dqnkit.envs.cartpole:CartPole")

_BY_EQUATIONS = {
    "CartPole-v0": partial(_CARTPOLE, id="CartPole-v0", max_episode_steps=200),
    "CartPole-v1": partial(_CARTPOLE, id="CartPole-v1", max_episode_steps=500),
    "MountainCar-v0": partial(_equations, "dqnkit.envs.mountain_car:MountainCar"),
    "Acrobot-v1": partial(_equations, "dqnkit.envs.acrobot:Acrobot"),
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
"""Least and greatest reward of a step, of those by equations."""

GRAPH_ENVIRONMENTS = (*_BY_EQUATIONS, *_BY_TABLE)
"""Ids that have a version in the graph."""


def graph_objection(config: EnvConfig) -> str | None:
    """Why an environment cannot run in the graph as it is configured; None if it can."""
    return next(_objections(config), None)


def _objections(config: EnvConfig) -> Iterator[str]:
    if config.id not in GRAPH_ENVIRONMENTS:
        yield f"{config.id!r} has no version in the graph ({', '.join(GRAPH_ENVIRONMENTS)} have)"
    if config.wrappers:
        yield f"env.wrappers holds {config.wrappers[0].path}, and wrappers run in Python"
    if config.frame_stack > 1:
        yield f"env.frame_stack is {config.frame_stack}, and frames are stacked in Python"
    if config.vectorization != "sync":
        yield f"env.vectorization is {config.vectorization}, and the graph steps them all at once"
    changed = sorted(set(config.kwargs) - {"max_episode_steps"})
    if config.id in _BY_EQUATIONS and changed:
        yield f"its version in the graph does not know env.kwargs.{changed[0]}"
    if config.kwargs.get("fickle_passenger"):
        yield "env.kwargs.fickle_passenger is not in Taxi's transition table"


def return_range(config: EnvConfig, gamma: float) -> tuple[float, float] | None:
    """Between what an environment's discounted returns lie; None where that is not known.

    By the rewards of a step, going on for ever: a time limit is bootstrapped from. From a
    transition table, whose rewards may come once, what good play comes to after any first step.
    """
    # How it is stepped changes no reward.
    plain = config.model_copy(update={"frame_stack": 1, "vectorization": "sync"})
    if gamma == 1.0 or graph_objection(plain) is not None:
        return None
    if plain.id in _BY_TABLE:
        return transition_table.return_range(transition_table.transition_table(plain), gamma)
    low, high = _REWARDS[plain.id]
    return min(0.0, low) / (1.0 - gamma), max(0.0, high) / (1.0 - gamma)


def make_dynamics(config: EnvConfig) -> Dynamics:
    """The dynamics of an environment that `graph_objection` has nothing against.

    The same object for the same configuration: what is compiled of it need not be compiled again.
    """
    return _dynamics(config.model_dump_json())


@cache
def _dynamics(document: str) -> Dynamics:
    config = EnvConfig.model_validate_json(document)
    if config.id in _BY_TABLE:
        return _table(config)
    return _BY_EQUATIONS[config.id](config=config)
