"""What the agent learns from."""

from __future__ import annotations

from typing import NamedTuple

from dqnkit._system.tensorflow import Tensor


class Transitions(NamedTuple):
    """A batch of transitions."""

    observation: Tensor
    """[B, *observation.shape]."""
    action: Tensor
    """int32 [B]."""
    reward: Tensor
    """float32 [B]; the discounted sum where it goes over several steps."""
    discount: Tensor
    """float32 [B]: 0 where the next observation is terminal, else gamma to the power of the steps
    beyond the first; an agent multiplies by gamma once more."""
    next_observation: Tensor
    """[B, *observation.shape]."""
