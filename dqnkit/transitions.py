"""What the agent learns from."""

from __future__ import annotations

from typing import NamedTuple

from dqnkit.runtime import Tensor


class Transitions(NamedTuple):
    """A batch of transitions."""

    observation: Tensor
    """[B, *observation.shape]."""
    action: Tensor
    """int32 [B]."""
    reward: Tensor
    """float32 [B]."""
    discount: Tensor
    """float32 [B]: 0 where the next observation is terminal."""
    next_observation: Tensor
    """[B, *observation.shape]."""
