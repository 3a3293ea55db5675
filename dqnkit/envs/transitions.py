"""Transitions, the training data of an agent."""

from __future__ import annotations

from typing import NamedTuple

from dqnkit._system.tensorflow import Tensor


class Transitions(NamedTuple):
    """A batch of transitions."""

    observation: Tensor
    """Observations that were acted on, [B, *observation.shape]."""
    action: Tensor
    """Actions, int32 [B]."""
    reward: Tensor
    """Rewards, float32 [B]; discounted sums of rewards if a transition spans several steps."""
    discount: Tensor
    """Discounts, float32 [B]: 0 if the next observation is terminal, else gamma ** (n - 1) for a
    transition of n steps. The agent multiplies by gamma once more."""
    next_observation: Tensor
    """Observations after the last step, [B, *observation.shape]."""
