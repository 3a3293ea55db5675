"""Environments that return something a little odd, one oddity each, as real ones do.

`Odd-v0` is a single environment, and its vector class steps several of them without converting
what they return. Episodes have five steps, and the third returns the oddity.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

ODD_STEP = 3
LAST_STEP = 30
"""Step of an environment, of all its episodes together, that does not return."""
LENGTH = 5
FLOATS = spaces.Box(-1, 1, (3,), np.float32)
PLAIN = np.zeros(3, np.float32)

OBSERVATIONS: dict[str, tuple[Any, Any, Any, str]] = {
    "above": (spaces.Discrete(4), 1, 7, "outside its space: it contains 7"),
    "below": (spaces.Discrete(4), 1, -1, "outside its space: it contains -1"),
    "wraps": (spaces.Discrete(4), 1, 256, "outside its space: it contains 256"),
    "digit": (
        spaces.MultiDiscrete([3, 3]),
        np.array([1, 0]),
        np.array([3, 0]),
        "outside its space: it contains 3",
    ),
    "bit": (spaces.MultiBinary(2), np.int8([1, 0]), np.int8([2, 0]), "it contains 2"),
    "leaf": (
        spaces.Dict(a=spaces.Discrete(3), b=FLOATS),
        {"a": 1, "b": PLAIN},
        {"a": -1, "b": PLAIN},
        "outside its space: 'a' contains -1",
    ),
    "byte": (
        spaces.Box(0, 255, (2,), np.uint8),
        np.uint8([0, 1]),
        np.array([0, 300]),
        "outside its space: it contains 300",
    ),
    "nan": (FLOATS, PLAIN, np.float32([0, np.nan, 0]), "not finite: it contains nan"),
    "nan leaf": (
        spaces.Dict(a=spaces.Discrete(3), b=FLOATS),
        {"a": 1, "b": PLAIN},
        {"a": 1, "b": np.float32([np.inf, 0, 0])},
        "not finite: 'b' contains inf",
    ),
    "beyond": (
        spaces.Dict(a=spaces.Box(-np.inf, np.inf, (2,), np.float64)),
        {"a": np.zeros(2)},
        {"a": np.array([0, -1e300])},
        r"beyond float32: 'a' contains -1e\+300",
    ),
    "shape": (FLOATS, PLAIN, np.zeros(4, np.float32), "wrong shape: it has shape"),
    "words": (FLOATS, PLAIN, np.array(["a", "b", "c"]), "wrong type: it is array"),
    "none": (FLOATS, PLAIN, None, "wrong type: it is"),
}
"""Space, usual observation, odd observation, and what the message says of it."""

RESULTS: dict[str, tuple[dict[str, Any], str]] = {
    "reward in words": ({"reward": "1.0"}, "reward"),
    "no reward": ({"reward": None}, "reward"),
    "two rewards": ({"reward": np.array([1.0, 2.0])}, r"rewards? of shape \(([12], )?2,?\)"),
    "nan reward": ({"reward": np.nan}, "reward that is not finite: nan"),
    "huge reward": ({"reward": -1e39}, "reward -1e.39, and float32 holds"),
    "endless reward": ({"reward": -(10**400)}, r"reward -1e\+400, and float32 holds"),
    "end in words": ({"terminated": "True"}, "as terminated, which must"),
    "end as two": ({"terminated": 2}, "as terminated, which must"),
    "no truncation": ({"truncated": None}, "as truncated, which must"),
}
"""Values in place of those of the usual result, and what the message says of them."""

HARMLESS = (
    *("plain", "reward of one", "infos", "options", "numpy scalars", "integer ends", "action type"),
    *("float64", "list"),
)
"""Oddities with which an environment can be used."""


def _sleep() -> None:
    Path("hanging").touch()
    time.sleep(600)


def _spin() -> None:
    Path("hanging").touch()
    while True:
        pass


def _raise(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


ENDS: dict[str, Callable[[], None]] = {
    "sleeps": _sleep,
    "spins": _spin,
    "interrupts": _raise(KeyboardInterrupt()),
    "leaves": _raise(GeneratorExit()),
    "cancels": _raise(asyncio.CancelledError("by itself")),
}
"""Functions that steps which do not return call, by oddity."""


class Odd(gymnasium.Env[Any, Any]):
    """An environment with one oddity, by its name."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    action_space = spaces.Discrete(2)

    def __init__(
        self, oddity: str = "plain", render_mode: str | None = None, reads: str = "."
    ) -> None:
        if oddity == "creation exits":
            sys.exit(0)
        if oddity == "changes folder":
            assert Path(reads).is_file(), Path.cwd()  # where every instance begins
            os.chdir("/")
        if oddity == "constructor hangs":
            self._hang_if_second()
        self.oddity, self.render_mode = oddity, render_mode
        self.observation_space, self._usual, self._odd, _ = OBSERVATIONS.get(
            oddity, (FLOATS, PLAIN, PLAIN, "")
        )
        self._action_types: set[Any] = set()
        self._infos = 0
        self._steps = 0
        self.at = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        assert options is None or self.oddity != "options", options
        self.at = 0
        if self.oddity == "observation alone":
            return self._usual
        return self._usual, self._info()

    def step(self, action: Any) -> Any:
        self.at += 1
        self._steps += 1
        if self._steps == LAST_STEP and self.oddity in ENDS:
            ENDS[self.oddity]()
        self._action_types.add((type(action), getattr(action, "dtype", None)))
        assert len(self._action_types) == 1 or self.oddity != "action type", self._action_types
        if self.oddity == "global generator":
            np.random.uniform()
        if self.oddity == "random module":
            random.random()
        is_odd = self.at == ODD_STEP
        changes = RESULTS[self.oddity][0] if is_odd and self.oddity in RESULTS else {}
        result = {
            "observation": self._observation(is_odd),
            "reward": self._reward(),
            "terminated": self._end(),
            "truncated": False,
            "info": self._info(),
        } | changes
        if self.oddity == "four values":
            del result["truncated"]
        return tuple(result.values())

    def render(self) -> np.ndarray:
        return np.full((20, 30, 3), 40 * self.at, np.uint8)

    def close(self) -> None:
        if self.oddity == "close raises":
            raise OSError("closed already")
        if self.oddity == "close exits":
            sys.exit(0)
        if self.oddity == "close hangs":
            time.sleep(600)

    def _hang_if_second(self) -> None:
        """Hang in the instance that trains: the first one is made for its spaces alone."""
        if Path("first").exists():
            _sleep()
        Path("first").touch()

    def _observation(self, is_odd: bool) -> Any:
        if self.oddity == "float64":
            return np.zeros(3)
        if self.oddity == "list":
            return [0, 0, 0.5]
        return self._odd if is_odd else self._usual

    def _reward(self) -> Any:
        scalars = {"reward of one": np.array([1.0]), "numpy scalars": np.float32(1.0)}
        return scalars.get(self.oddity, 1.0)

    def _end(self) -> Any:
        ended = self.at == LENGTH
        numbers = {
            "reward of one": np.array([ended]),
            "numpy scalars": np.bool_(ended),
            "integer ends": int(ended),
        }
        return numbers.get(self.oddity, ended)

    def _info(self) -> dict[str, Any]:
        if self.oddity != "infos":
            return {}
        self._infos += 1
        kinds = [np.zeros(self._infos % 7), 0, "red", None, {"a": 1}]
        return {"k": kinds[self._infos % 5], "f": lambda: 0}


class OldReset(Odd):
    """An environment whose `reset` takes no seed."""

    def reset(self) -> Any:  # type: ignore[override]
        return self._usual, {}


class OddVector(VectorEnv[Any, Any, Any]):
    """A vector class that returns what its environments return."""

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        self._envs = [Odd(**kwargs) for _ in range(num_envs)]
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space = self._envs[0].observation_space
        self.single_action_space = self._envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._latest: list[Any] = [None] * num_envs

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = (options or {}).get("reset_mask", [True] * self.num_envs)
        for index in np.flatnonzero(mask):
            self._latest[index] = self._envs[index].reset(seed=seed)[0]
        return _batch(self._latest), {}

    def step(self, actions: Any) -> Any:
        results = [env.step(action) for env, action in zip(self._envs, actions, strict=True)]
        observations, *columns, _ = zip(*results, strict=True)
        self._latest = list(observations)
        return _batch(observations), *(np.array(column) for column in columns), {}

    def close_extras(self, **_: Any) -> None:
        for env in self._envs:
            env.close()


def _batch(observations: Any) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.array([each[key] for each in observations]) for key in observations[0]}
    return np.array(observations)


class SameStepVector(OddVector):
    """A vector class that resets an environment in the step that ends its episode."""

    def __init__(self, num_envs: int, final: Any = np.nan, **kwargs: Any) -> None:
        super().__init__(num_envs, **kwargs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._final = final

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if self._final == "no reset":
            return None
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        frame, reward, terminated, truncated, _ = super().step(actions)
        if not terminated.any():
            return frame, reward, terminated, truncated, {}
        last = frame.copy()
        frame, _ = super().reset(options={"reset_mask": terminated})
        infos = {} if self._final is None else {"final_obs": last + self._final}
        return frame, reward, terminated, truncated, infos


class Licensed(Odd):
    """An environment of which only one instance can live, by a file in the working directory."""

    def __init__(self, lock: str) -> None:
        super().__init__()
        self._lock: Path | None = Path(lock)
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self._lock = None
            raise RuntimeError("the licence is in use") from None

    def close(self) -> None:
        if self._lock is not None:
            self._lock.unlink()
            self._lock = None


gymnasium.register("Odd-v0", entry_point=Odd, vector_entry_point=OddVector)
gymnasium.register("SameStep-v0", vector_entry_point=SameStepVector)
gymnasium.register("OldReset-v0", entry_point=OldReset)
gymnasium.register("Licensed-v0", entry_point=Licensed)


class Slow(Odd):
    """An environment whose steps take time, and whose episodes never end."""

    def __init__(self, seconds: float = 0.002) -> None:
        super().__init__()
        self._seconds = seconds

    def step(self, action: Any) -> Any:
        time.sleep(self._seconds)
        observation, reward, *_ = super().step(action)
        return observation, reward, False, False, {}


class Far(gymnasium.Env[Any, Any]):
    """An environment whose observations change little beside their size."""

    action_space = spaces.Discrete(2)

    def __init__(self, offset: float, change: float, dtype: str = "float64") -> None:
        self._offset, self._change, self._dtype = offset, change, np.dtype(dtype)
        bound = 2**62 if self._dtype.kind == "i" else np.inf
        far = spaces.Box(-bound, bound, (2,), self._dtype.type)  # type: ignore[arg-type]
        self.observation_space = spaces.Dict(far=far, near=FLOATS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._at = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self._at += 1
        return self._observe(), 1.0, self._at == 10, False, {}

    def _observe(self) -> Any:
        far = np.array([0, self._offset + self._at * self._change], self._dtype)
        return {"far": far, "near": PLAIN}


class Dying(Odd):
    """An environment that dies after twelve steps."""

    def __init__(self) -> None:
        super().__init__()
        self._steps, self._is_dead = 0, False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if self._is_dead:
            raise RuntimeError("the simulator is gone")
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self._steps += 1
        if self._steps > 12:  # in the evaluation before training
            self._is_dead = True
            raise ValueError("the real cause")
        return super().step(action)


class Camera(gymnasium.Env[Any, Any]):
    """Episodes of ten steps in which the sign of the speed names the action; the image is noise."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    action_space = spaces.Discrete(2)

    def __init__(self, dtype: str = "uint8", render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (12, 10), np.dtype(dtype).type),
            gear=spaces.Discrete(3, start=-1),
            speed=spaces.Box(-1, 1, (1,), np.float32),
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        reward = float((self._speed > 0) == (action == 1))
        self.at += 1
        return self._observe(), reward, self.at == 10, False, {}

    def render(self) -> np.ndarray:
        return np.repeat(self._image[..., None], 3, axis=2).astype(np.uint8)

    def _observe(self) -> dict[str, Any]:
        self._speed = float(self.np_random.choice([-1.0, 1.0]))
        self._image = self.np_random.integers(0, 256, (12, 10))
        space = self.observation_space["image"]
        return {
            "image": self._image.astype(space.dtype),
            "gear": int(self.np_random.integers(-1, 2)),
            "speed": np.array([self._speed], np.float32),
        }


gymnasium.register("Far-v0", entry_point=Far)
gymnasium.register("Dying-v0", entry_point=Dying)
gymnasium.register("Slow-v0", entry_point=Slow)
gymnasium.register("Camera-v0", entry_point=Camera)
