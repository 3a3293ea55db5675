"""Returns over three steps with discount factor 1/2, computed by hand.

Five steps with rewards 1, 2, 4, 8 and 16 start at observations 0, 1, 2, 3 and 4. A step leads to
the observation of the next one; a step that ends an episode leads to its own observation plus 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

GAMMA = 0.5
N_STEP = 3
REWARDS = (1.0, 2.0, 4.0, 8.0, 16.0)

Row = tuple[float, float, float]
"""Sum of rewards, discount of the bootstrap value beyond one step, observation it belongs to."""

# 1 + 2/2 + 4/4; 2 + 4/2 + 8/4; 4 + 8/2 + 16/4; cut off at the newest step: 8 + 16/2; 16
WITHOUT_END: tuple[Row, ...] = ((3, 0.25, 3), (6, 0.25, 4), (12, 0.25, 5), (16, 0.5, 5), (16, 1, 5))


class Case(NamedTuple):
    """The step that ends an episode, and the rows of `WITHOUT_END` that it changes, by start."""

    end: int
    terminated: bool
    changed: dict[int, Row]

    @property
    def rows(self) -> list[Row]:
        """Expected rows of all five starts."""
        return [self.changed.get(start, row) for start, row in enumerate(WITHOUT_END)]


CASES = [
    Case(0, True, {0: (1, 0, 0.5)}),
    Case(0, False, {0: (1, 1, 0.5)}),
    Case(1, True, {0: (2, 0, 1.5), 1: (2, 0, 1.5)}),
    Case(1, False, {0: (2, 0.5, 1.5), 1: (2, 1, 1.5)}),
    Case(2, True, {0: (3, 0, 2.5), 1: (4, 0, 2.5), 2: (4, 0, 2.5)}),
    Case(2, False, {0: (3, 0.25, 2.5), 1: (4, 0.5, 2.5), 2: (4, 1, 2.5)}),
    Case(3, True, {1: (6, 0, 3.5), 2: (8, 0, 3.5), 3: (8, 0, 3.5)}),
    Case(3, False, {1: (6, 0.25, 3.5), 2: (8, 0.5, 3.5), 3: (8, 1, 3.5)}),
    Case(4, True, {2: (12, 0, 4.5), 3: (16, 0, 4.5), 4: (16, 0, 4.5)}),
    Case(4, False, {2: (12, 0.25, 4.5), 3: (16, 0.5, 4.5), 4: (16, 1, 4.5)}),
    Case(-1, False, {}),
]


class Step(NamedTuple):
    """A step of one environment."""

    observation: float
    reward: float
    terminated: bool
    done: bool
    led_to: float


def steps(case: Case) -> list[Step]:
    """Return the five steps of a case."""
    history = []
    for t, reward in enumerate(REWARDS):
        ends = t == case.end
        history.append(Step(t, reward, case.terminated and ends, ends, t + (0.5 if ends else 1)))
    return history


def n_step(history: list[Step], start: int, n: int, gamma: float) -> Row:
    """Compute a row naively, by walking through the history."""
    total, discount = 0.0, 1.0
    for k in range(n):
        step = history[start + k]
        total += gamma**k * step.reward
        discount = 0.0 if step.terminated else gamma**k
        if step.done or start + k == len(history) - 1:
            break
    return total, discount, step.led_to
