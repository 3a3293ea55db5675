"""An environment that fails in a chosen way, as long as a file exists."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

BROKEN = Path("broken")
"""File in the working directory; while it exists, the environment fails."""


class Faulty(gymnasium.Env[Any, Any]):
    """Episodes of ten steps with a reward of 1 each, until a fault in `step` or `reset`."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str, call: str = "step", after: int = 150) -> None:
        """Make an environment that fails in `call`, `step` or `reset`, after a number of steps."""
        self._fault, self._call, self._after = fault, call, after
        self._steps = self._at = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._at = 0
        return self._observation("reset"), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._at += 1
        reward = {"nan reward": np.nan, "infinite reward": np.inf}.get(self._now("step"), 1.0)
        return self._observation("step"), reward, self._at == 10, False, {}

    def _now(self, call: str) -> str:
        is_broken = self._steps >= self._after and call == self._call and BROKEN.exists()
        return self._fault if is_broken else ""

    def _observation(self, call: str) -> np.ndarray:
        fault = self._now(call)
        if fault == "raise":
            raise RuntimeError("out of ice")
        if fault == "hang":
            time.sleep(600)
        if fault == "busy":
            while True:
                pass
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        numbers = {"nan observation": np.nan, "infinite observation": -np.inf}
        return np.array([numbers.get(fault, self._at)], np.float32)


gymnasium.register("Faulty-v0", entry_point=Faulty)
