"""Vectors of Gymnasium environments with one interface to all autoreset modes."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from dqnkit._system.text import short_repr
from dqnkit.config.sections import EnvConfig
from dqnkit.envs import factory, precision
from dqnkit.envs.checks import ADVICE, are_truth_values, is_large_integer, reward_problem
from dqnkit.envs.closing import close_all, close_processes, closer
from dqnkit.envs.failures import wrap_env_errors
from dqnkit.envs.observations import InvalidObservationError, ObservationEncoder
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.watchdog import Watchdog, hang_error, interruptible
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError

_WARNING_STEPS = {1, 16, 256, 1_024}
"""Numbers of steps after which warnings are collected, which takes time in other processes."""


class Step(NamedTuple):
    """Result of one step of N environments. The next step may overwrite its arrays."""

    stepped: np.ndarray
    """True where the action was taken, bool [N]. Elsewhere the step was a reset, and of the other
    fields only `started` is meaningful."""
    frame: np.ndarray
    """Frames after the actions, [N, *frame_shape]; at the end of an episode, its true last
    frame."""
    reward: np.ndarray
    """Rewards, float32 [N]."""
    terminated: np.ndarray
    """True where the action led to a terminal state, bool [N]."""
    truncated: np.ndarray
    """True where the episode was cut off, bool [N]; its return is bootstrapped."""
    started: np.ndarray
    """True where a new episode has begun, bool [N]; `VectorEnvironment.frame` has its first
    frame."""

    @property
    def done(self) -> np.ndarray:
        """True where the episode is terminated or truncated, bool [N]."""
        done: np.ndarray = self.terminated | self.truncated
        return done


class VectorEnvironment:
    """A vector of Gymnasium environments with one interface to all autoreset modes.

    The modes are described in https://farama.org/Vector-Autoreset-Mode. In the modes `SAME_STEP`
    and `DISABLED`, each step takes an action in every environment; in the mode `NEXT_STEP`, the
    step after the end of an episode is its reset.
    """

    def __init__(
        self,
        config: EnvConfig,
        spec: EnvSpec,
        num_envs: int,
    ) -> None:
        """Create the environments.

        Args:
          config: Configuration of the environments.
          spec: Spec of one environment, as returned by `description.describe_env`.
          num_envs: Number of environments.

        Raises:
          UnsupportedEnvironmentError: If the environments cannot be created, or if their autoreset
            mode is unknown.
        """
        self.num_envs = num_envs
        self._spec = spec
        self._timeout = config.step_timeout
        self._encoder = ObservationEncoder(spec.observation)
        with interruptible(spec.id):
            self._envs: Any = factory.make_vector_env(config, spec, num_envs)
        # The environments of a vector class are not checked one by one.
        self._is_checked = config.vectorization != "vector_entry_point"
        mode = self._envs.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            self._envs.close()
            raise UnsupportedEnvironmentError(
                f"env.vectorization={config.vectorization}: the vector class of {config.id!r} has "
                f"metadata['autoreset_mode']={mode!r}, which must be a member of "
                "gymnasium.vector.AutoresetMode; set env.vectorization to sync or async"
            )
        self._mode = mode
        # AsyncVectorEnv takes a timeout for each call.
        has_timeout = isinstance(self._envs, AsyncVectorEnv)
        self._watchdog = Watchdog(None if has_timeout else config.step_timeout, spec.id)
        self._action_dtype = getattr(self._envs.action_space, "dtype", np.dtype(np.int64))
        self._is_idle = True
        self._num_steps = 0
        self._checks_bounds = self._checks_precision = True
        self._warnings: list[str] = []
        self._elapsed = np.zeros(num_envs, np.int64)
        """Number of steps of each episode."""
        self._ended = np.zeros(num_envs, np.bool_)
        self._all_true = np.ones(num_envs, np.bool_)
        observation = spec.observation
        shape = (num_envs, observation.frame_stack, *observation.frame_shape)
        self._frames = np.zeros(shape, observation.dtype)

    @property
    def frame(self) -> np.ndarray:
        """Current frames, [N, *frame_shape]; where an episode has begun, its first frame."""
        newest: np.ndarray = self._frames[:, -1]
        return newest

    @property
    def observation(self) -> np.ndarray:
        """Current observations, [N, *observation.shape].

        The stack at the start of an episode consists of copies of its first frame, as in
        Gymnasium's `FrameStackObservation`.
        """
        return self.frame if self._spec.observation.frame_stack == 1 else self._frames

    def reset(self, seeds: Sequence[int]) -> None:
        """Start an episode in each environment.

        Args:
          seeds: Seed of each environment. A vector class of the environment's own gets only the
            first one, and derives the others from it.
        """
        self._elapsed[:] = 0
        frame = self._reset(seed=list(seeds) if self._is_checked else seeds[0])
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._frames[:] = frame[:, None]

    def step(self, actions: np.ndarray) -> Step:
        """Take an action in each environment, and reset those whose episode has ended.

        Args:
          actions: Actions counted from 0, int [N].
        """
        numbers = (actions + self._spec.first_action).astype(self._action_dtype)
        with self._errors_wrapped("step"):
            result = self._call_step(numbers)
        self._elapsed += 1
        frame, reward, terminated, truncated, infos = self._checked(result)
        self._check(frame)
        done = terminated | truncated
        last_frame = frame
        stepped, started = self._all_true, done
        if self._mode is AutoresetMode.NEXT_STEP:
            stepped, started = ~self._ended, self._ended
            self._ended = done
        elif done.any():
            last_frame = frame.copy()
            if self._mode is AutoresetMode.SAME_STEP:
                last_frame[done] = self._final_frames(infos, np.flatnonzero(done))
            else:
                # Some vector classes return their own arrays, which the reset then clears.
                terminated, truncated = terminated.copy(), truncated.copy()
                self._elapsed[done] = 0
                frame = self._reset(options={"reset_mask": done.copy()})
        self._num_steps += 1
        if self._num_steps in _WARNING_STEPS:
            self._collect_warnings()
        self._push(frame, started)
        return Step(stepped, last_frame, reward, terminated, truncated, started)

    def _final_frames(self, infos: Any, rows: np.ndarray) -> np.ndarray:
        """Return the last frames of the episodes that a step in mode `SAME_STEP` ended."""
        if not isinstance(infos, Mapping) or "final_obs" not in infos:
            raise self._error("gave no infos['final_obs'] at the end of an episode", int(rows[0]))
        frames = np.stack([self._encode(_row(infos["final_obs"], row), ()) for row in rows])
        self._check(frames, rows)
        return frames

    def magnitudes(self) -> dict[str, float]:
        """Return the greatest magnitude in the current frames, by the name of each array."""
        return self._encoder.magnitudes(self.frame)

    def take_warnings(self) -> list[str]:
        """Return the warnings since the last call, those of `close` included."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def close(self) -> None:
        """Close the environments within a time limit, and kill the processes of those that hang.

        What goes wrong becomes a warning: the results are complete.
        """
        self._watchdog.close()
        if isinstance(self._envs, AsyncVectorEnv):
            self._warnings += close_processes(
                self._envs, self._spec.id, self._timeout, is_idle=self._is_idle
            )
            return
        closers = [closer(self._envs)]
        if isinstance(self._envs, SyncVectorEnv) and self._is_checked:
            closers = [env.finish for env in self._envs.envs]  # type: ignore[attr-defined]
        self._warnings += close_all(closers, self._spec.id, self._timeout)
        self._envs.closed = True  # otherwise closed again, without a limit, when it is deleted

    # -- Calls into the environments

    def _call_step(self, actions: np.ndarray) -> Any:
        self._is_idle = False
        with self._watchdog:
            if isinstance(self._envs, AsyncVectorEnv):
                self._envs.step_async(actions)
                result: Any = self._envs.step_wait(timeout=self._timeout)
            else:
                result = self._envs.step(actions)
        self._is_idle = True
        return result

    def _reset(self, **arguments: Any) -> np.ndarray:
        """Reset some or all environments; return the checked frames of all."""
        with self._errors_wrapped("reset"):
            self._is_idle = False
            with self._watchdog:
                if isinstance(self._envs, AsyncVectorEnv):
                    self._envs.reset_async(**arguments)
                    result: Any = self._envs.reset_wait(timeout=self._timeout)
                else:
                    result = self._envs.reset(**arguments)
            self._is_idle = True
        if self._is_checked:
            frame: np.ndarray = result[0]
        else:
            if not isinstance(result, tuple) or len(result) != 2:
                raise self._error(
                    f"returned {short_repr(result)}, but must return observations and infos", None
                )
            frame = self._encode(result[0], (self.num_envs,))
        self._check(frame)
        return frame

    def _collect_warnings(self) -> None:
        """Collect the warnings that steps of the environments have given."""
        if self._is_checked:
            warnings = [text for each in self._envs.call("take_warnings") for text in each]
            self._warnings += dict.fromkeys(warnings)
        if self._checks_precision:
            found = [self._encoder.precision_problem()]
            if self._is_checked:
                found = list(self._envs.call("precision_problem"))
            problem = next(filter(None, found), None)
            if problem is not None:
                self._checks_precision = False
                self._warnings.append(f"{self._spec.id!r} {problem}: {precision.ADVICE}")

    @contextmanager
    def _errors_wrapped(self, call: str) -> Iterator[None]:
        """Raise exceptions of the environment's own code as `EnvironmentFailedError`."""
        if not isinstance(self._envs, AsyncVectorEnv):
            with wrap_env_errors(self._spec.id, call):
                yield
            return
        # Exceptions of a process are raised again here, so Gymnasium's warnings add nothing.
        with _without_warnings(), wrap_env_errors(self._spec.id, call):
            try:
                yield
            except multiprocessing.TimeoutError as error:
                raise hang_error(self._spec.id, self._timeout) from error
            except (EOFError, ConnectionError) as error:
                raise EnvironmentFailedError(
                    f"a process of {self._spec.id!r} has died in {call} ({type(error).__name__}); "
                    "env.vectorization=sync may show the reason"
                ) from error

    # -- Checks of what they return

    def _checked(self, result: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
        """Return frames, rewards float32 [N], terminated, truncated and infos of a step."""
        if self._is_checked:
            frame, reward, terminated, truncated, infos = result
            return frame, reward.astype(np.float32), terminated, truncated, infos
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._error(f"returned {short_repr(result)}, but must return five values", None)
        observation, reward, terminated, truncated, infos = result
        frame = self._encode(observation, (self.num_envs,))
        return (
            frame,
            self._rewards(np.asarray(reward)),
            self._truths("terminated", np.asarray(terminated)),
            self._truths("truncated", np.asarray(truncated)),
            infos,
        )

    def _encode(self, observation: Any, lead: tuple[int, ...]) -> np.ndarray:
        try:
            return self._encoder.encode(observation, lead)
        except InvalidObservationError as error:
            raise self._error(str(error), error.row) from None

    def _rewards(self, rewards: np.ndarray) -> np.ndarray:
        for row, reward in enumerate(rewards.flat if rewards.dtype == np.object_ else ()):
            if is_large_integer(reward):
                problem = reward_problem(reward)
                raise EnvironmentFailedError(f"{self._spec.id!r}{self._where(row)} {problem}")
        if rewards.dtype.kind not in "biuf" or rewards.size != self.num_envs:
            raise self._error(
                f"gave rewards of shape {rewards.shape} and type {rewards.dtype}, "
                f"{short_repr(rewards)}, and a DQN needs one number for each of {self.num_envs} "
                "environments",
                None,
            )
        with np.errstate(over="ignore"):
            numbers = rewards.reshape(self.num_envs).astype(np.float32)
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            value = float(rewards.reshape(self.num_envs)[row])
            problem = reward_problem(value)
            raise EnvironmentFailedError(f"{self._spec.id!r}{self._where(row)} {problem}")
        return numbers

    def _truths(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.size != self.num_envs or not are_truth_values(values):
            raise self._error(
                f"returned {short_repr(values)} of shape {values.shape} and type {values.dtype} as "
                f"{name}, which must have one truth value for each of {self.num_envs} environments",
                None,
            )
        truths: np.ndarray = values.reshape(self.num_envs).astype(np.bool_)
        return truths

    def _check(self, frame: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Check the floats of frames: an error if one is not finite, a warning out of bounds.

        Args:
          frame: Frames [K, *frame_shape].
          rows: Environments that they are of, [K]; None for all.
        """
        if self._checks_bounds and self._encoder.are_plain(frame):
            return
        try:
            self._encoder.check_finite(frame)
        except InvalidObservationError as error:
            row = error.row if rows is None or error.row is None else int(rows[error.row])
            raise self._error(str(error), row) from None
        if self._checks_bounds:
            try:
                self._encoder.check_bounds(frame)
            except InvalidObservationError as error:
                # Many environments leave their bounds, and the numbers mean what they say.
                self._checks_bounds = False
                self._warnings.append(
                    f"{self._spec.id!r}{self._where(error.row)} {error}; values like this are used "
                    "as they are"
                )

    def _where(self, row: int | None) -> str:
        """Return a clause on the environment and the step of its episode, if they are known."""
        which, step = "", self._elapsed.max()
        if row is not None:
            step = self._elapsed[row]
            which = f" (environment {row + 1} of {self.num_envs})" * (self.num_envs > 1)
        return f"{which}, in {f'step {step}' if step else 'reset'} of an episode,"

    def _error(self, problem: str, row: int | None) -> EnvironmentFailedError:
        return EnvironmentFailedError(f"{self._spec.id!r}{self._where(row)} {problem}; {ADVICE}")

    def _push(self, frame: np.ndarray, started: np.ndarray) -> None:
        if self._spec.observation.frame_stack > 1:
            self._frames[:, :-1] = self._frames[:, 1:]
        self._frames[:, -1] = frame
        if started.any():
            self._elapsed[started] = 0
            self._frames[started] = frame[started][:, None]


def _row(observations: Any, row: int) -> Any:
    """Return the observation of one environment from those of all, nested as its space is."""
    if isinstance(observations, Mapping):
        return {key: _row(value, row) for key, value in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_row(value, row) for value in observations)
    return observations[row]


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
