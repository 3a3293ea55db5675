"""What the loops outside the graph have in common: sums of a log interval, and saved state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dqnkit.envs.vector import Step
from dqnkit.errors import ConfigError
from dqnkit.loops.base import Arrays, IntervalMetrics, IntervalSums


class EndedEpisode(NamedTuple):
    """One that has ended."""

    undiscounted_return: float
    length: float


class EpisodeStats:
    """What the episodes of several environments have come to."""

    def __init__(self, num_envs: int) -> None:
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs)

    def ended(self, step: Step) -> list[EndedEpisode]:
        """Adds a step; the episodes that it ended."""
        self._returns += np.where(step.stepped, step.reward, 0.0)
        self._lengths += step.stepped
        over = step.done & step.stepped
        if not over.any():
            return []
        columns = (self._returns[over].tolist(), self._lengths[over].tolist())
        self._returns[over] = self._lengths[over] = 0.0
        return [EndedEpisode(*each) for each in zip(*columns, strict=True)]


@dataclass
class HostInterval:
    """IntervalSums over the log interval that is under way."""

    updates: float = 0.0
    loss: float = 0.0
    steps: float = 0.0
    exploration: float = 0.0
    episodes: float = 0.0
    returns: float = 0.0
    lengths: float = 0.0

    def count(self, ended: Sequence[EndedEpisode]) -> None:
        """Adds episodes."""
        self.episodes += len(ended)
        self.returns += sum(each.undiscounted_return for each in ended)
        self.lengths += sum(each.length for each in ended)

    def metrics(self, iteration: int, env_steps: int) -> IntervalMetrics:
        """Its means."""
        return IntervalSums(iteration, env_steps, **vars(self)).metrics()


def parts_of(state: Arrays) -> dict[str, Arrays]:
    """The state of a loop, part by part: agent, replay, random, loop.

    Raises:
      ConfigError: It is not of a loop outside the graph.
    """
    parts: dict[str, Arrays] = {"agent": {}, "replay": {}, "random": {}, "loop": {}}
    for name, value in state.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = value
    missing = {"counters", "window"} - set(parts["loop"])
    missing |= {"counter", "key", "buffer", "rest"} - set(parts["random"])
    if missing:
        raise ConfigError(f"the saved state has no {min(missing)!r}: it is not one of this loop")
    return parts


def random_state(rng: np.random.Generator) -> Arrays:
    """A Philox generator's state as arrays."""
    state: Any = rng.bit_generator.state
    rest = [state["buffer_pos"], state["has_uint32"], state["uinteger"]]
    return {**state["state"], "buffer": state["buffer"], "rest": np.array(rest, np.uint64)}


def set_random_state(rng: np.random.Generator, arrays: Arrays) -> None:
    """Goes back to a `random_state`."""
    state: Any = rng.bit_generator.state
    state["state"] = {"counter": arrays["counter"], "key": arrays["key"]}
    state["buffer"] = arrays["buffer"]
    for name, value in zip(("buffer_pos", "has_uint32", "uinteger"), arrays["rest"], strict=True):
        state[name] = int(value)
    rng.bit_generator.state = state
