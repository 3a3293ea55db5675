"""Checks of what an environment returns, before anything else reads it."""

from __future__ import annotations

import math
import random
from typing import Any, NoReturn

import gymnasium
import numpy as np
from typing_extensions import override

from dqnkit._system.text import one_line, short_repr
from dqnkit.envs.failures import ENVIRONMENT_EXCEPTIONS, OLD_API, call_failure
from dqnkit.envs.observations import InvalidObservationError, ObservationEncoder
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import DqnkitError, EnvironmentFailedError

Env = gymnasium.Env[Any, Any]

MAX_REWARD = float(np.finfo(np.float32).max)
"""Largest magnitude of a reward: the largest float32."""
ADVICE = "fix the environment, or convert what it returns by a wrapper in env.wrappers"
SEVERAL_OBJECTIVES = (
    "combine the objectives by a wrapper in env.wrappers, such as "
    "mo_gymnasium.wrappers.LinearReward"
)


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose results are checked, and whose observations are frames.

    Whatever an environment returns passes through here before it reaches a vector of environments,
    which would convert it without a word: "1.0" to 1, and 256 to 0 in an array of bytes. Infos are
    dropped: nothing in training reads them, and vectors fail on infos that change their type.
    Every reset gets the same arguments, and every step an action of the same type.
    """

    creation_error = None
    """None; an environment that could not be made in its process has the exception here."""

    def __init__(self, env: Env, spec: EnvSpec, label: str = "") -> None:
        """Wrap an environment.

        Args:
          env: The environment with all its other wrappers.
          spec: Spec of the environment.
          label: Clause that tells it from others in messages, such as ` (environment 2 of 4)`.
        """
        super().__init__(env)
        self._name = f"{spec.id!r}{label}"
        self._encoder = ObservationEncoder(spec.observation)
        self._action_type = getattr(env.action_space, "dtype", np.dtype(np.int64)).type
        self._step = 0
        self._watches_generators = True
        self._warnings: list[str] = []
        self._is_open = True
        self.observation_space = self._encoder.frame_space

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        del options  # vectors give None in the first reset and {} in later ones
        self._step = 0
        try:
            result: Any = self.env.reset(seed=seed)
        except ENVIRONMENT_EXCEPTIONS as error:
            raise self._failure("reset", error) from error
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
            self._fail(f"returned {short_repr(result)} from reset; {OLD_API}", advice=False)
        return self._encode(result[0]), {}

    @override
    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        try:
            if self._watches_generators:
                result = self._step_and_watch(self._action_type(action))
            else:
                result = self.env.step(self._action_type(action))
        except ENVIRONMENT_EXCEPTIONS as error:
            raise self._failure(f"step {self._step} of an episode", error) from error
        if not isinstance(result, tuple) or len(result) != 5:
            count = f"{len(result)} values" if isinstance(result, tuple) else short_repr(result)
            self._fail(f"returned {count} from step; {OLD_API}", advice=False)
        observation, reward, terminated, truncated, _ = result
        return (
            self._encode(observation),
            reward if _is_plain(reward) else self._number(reward),
            terminated if type(terminated) is bool else self._truth("terminated", terminated),
            truncated if type(truncated) is bool else self._truth("truncated", truncated),
            {},
        )

    def take_warnings(self) -> list[str]:
        """Return the warnings since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def precision_problem(self) -> str | None:
        """Return a clause on observations that float32 cannot tell apart; None if none is known."""
        return self._encoder.precision_problem()

    def finish(self) -> list[str]:
        """Close the environment; return what went wrong, as warnings."""
        self.close()
        return self.take_warnings()

    @override
    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            super().close()
        except ENVIRONMENT_EXCEPTIONS as error:  # of the environment's own code
            self._warnings.append(close_problem(self._name, error))

    def _encode(self, observation: Any) -> np.ndarray:
        try:
            return self._encoder.encode(observation)
        except InvalidObservationError as error:
            self._fail(str(error))

    def _step_and_watch(self, action: Any) -> Any:
        """Take a step and find out, once, whether it uses a generator that no seed reaches."""
        self._watches_generators = False
        before = _global_generators()
        result = self.env.step(action)
        used = [name for name, state in _global_generators().items() if state != before[name]]
        if used:
            self._warnings.append(
                f"{self._name} draws from the global generator of {' and '.join(used)}, which no "
                "seed of a run reaches: the run cannot be repeated; draw from the environment's "
                "self.np_random instead"
            )
        return result

    def _number(self, reward: Any) -> float:
        if is_large_integer(reward):
            self._fail(_large_reward(reward), advice=False)
        numbers = _as_array(reward)
        if numbers.dtype.kind not in "biuf" or not numbers.size:
            self._fail(f"gave a reward that is not a number: {short_repr(reward)} {_type(reward)}")
        if numbers.size > 1:
            self._fail(
                f"gave a reward of shape {numbers.shape}, {short_repr(reward)}, and a DQN needs "
                f"one number: {SEVERAL_OBJECTIVES}",
                advice=False,
            )
        value = float(numbers.item())
        problem = reward_problem(value)
        if problem:
            self._fail(problem, advice=False)
        return value

    def _truth(self, name: str, value: Any) -> bool:
        values = _as_array(value)
        if not are_truth_values(values) or values.size != 1:
            self._fail(
                f"returned {short_repr(value)} {_type(value)} as {name}, which must be True or "
                "False"
            )
        return bool(values.item())

    def _failure(self, call: str, error: BaseException) -> DqnkitError:
        """Return the error of a call that has raised an exception."""
        if isinstance(error, DqnkitError):  # of the watchdog
            return error
        return call_failure(self._name, call, error)

    def _fail(self, problem: str, *, advice: bool = True) -> NoReturn:
        at = f"in step {self._step}" if self._step else "in reset"
        end = f"; {ADVICE}" if advice else ""
        raise EnvironmentFailedError(f"{self._name}, {at} of an episode, {problem}{end}")


def close_problem(name: str, error: BaseException) -> str:
    """Return a warning about an exception in `close`, which costs a run nothing."""
    cause = "" if isinstance(error, EnvironmentFailedError) else f"{type(error).__name__}: "
    return f"{name} failed in close ({cause}{one_line(error)}); the results are not affected"


def _is_plain(reward: Any) -> bool:
    """Return whether a reward is a float that needs no conversion."""
    return isinstance(reward, float) and -MAX_REWARD <= reward <= MAX_REWARD


def reward_problem(value: float) -> str | None:
    """Return what is wrong with a reward, and what to do about it; None if nothing is."""
    if is_large_integer(value):
        return _large_reward(value)
    if not np.isfinite(value):
        return f"gave a reward that is not finite: {value}; {ADVICE}"
    return _large_reward(value) if abs(value) > MAX_REWARD else None


def is_large_integer(reward: Any) -> bool:
    """Return whether a reward is an integer beyond float32, and perhaps beyond float64 too."""
    return isinstance(reward, int) and abs(reward) > MAX_REWARD


def _large_reward(value: float) -> str:
    try:
        shown = f"{float(value):.3g}"
    except OverflowError:  # an integer of many digits
        shown = f"{'-' if value < 0 else ''}1e+{int(math.log10(abs(value)))}"
    return (
        f"gave the reward {shown}, and float32 holds at most {MAX_REWARD:.3g}; clip the rewards by "
        "gymnasium.wrappers.ClipReward in env.wrappers, or divide them by a wrapper of your own"
    )


def are_truth_values(values: np.ndarray) -> bool:
    """Return whether an array has truth values only: booleans, or integers that are 0 or 1."""
    kind = values.dtype.kind
    return kind == "b" or (kind in "iu" and bool(((values == 0) | (values == 1)).all()))


def _as_array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # nested lists of different lengths
        return np.asarray(None)


def _type(value: Any) -> str:
    return f"({type(value).__name__})"


def _global_generators() -> dict[str, Any]:
    """Return the states of the generators that all code of a process shares."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    state = (algorithm, np.asarray(keys).tobytes(), *rest)
    return {"np.random": state, "random": random.getstate()}
