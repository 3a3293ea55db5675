"""Vectors of Gymnasium environments with one interface to all autoreset modes."""

from __future__ import annotations

import contextlib
import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from dqnkit.config.sections import EnvConfig, WrapperConfig
from dqnkit.envs import factory
from dqnkit.envs.failures import wrap_env_errors
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.watchdog import Watchdog, hang_error
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError


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
        wrappers: Sequence[WrapperConfig] | None = None,
    ) -> None:
        """Create the environments.

        Args:
          config: Configuration of the environments.
          spec: Spec of one environment, as returned by `factory.describe_env`.
          num_envs: Number of environments.
          wrappers: Wrappers that replace those of the configuration.

        Raises:
          UnsupportedEnvironmentError: If the environments cannot be created, or if their autoreset
            mode is unknown.
        """
        self.num_envs = num_envs
        self._spec = spec
        self._envs = factory.make_vector_env(config, num_envs, wrappers)
        mode = self._envs.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            self._envs.close()
            raise UnsupportedEnvironmentError(
                f"env.vectorization={config.vectorization}: the vector class of {config.id!r} has "
                f"metadata['autoreset_mode']={mode!r}, which must be a member of "
                "gymnasium.vector.AutoresetMode; set env.vectorization to sync or async"
            )
        self._mode = mode
        self._timeout = config.step_timeout
        # AsyncVectorEnv takes a timeout for each call.
        has_timeout = isinstance(self._envs, AsyncVectorEnv)
        self._watchdog = Watchdog(None if has_timeout else config.step_timeout, spec.id)
        self._takes_one_seed = config.vectorization == "vector_entry_point"
        self._dtype = np.dtype(spec.observation.dtype)
        self._ended = np.zeros(num_envs, np.bool_)
        self._all_true = np.ones(num_envs, np.bool_)
        stack = spec.observation.frame_stack
        shape = (num_envs, stack, *spec.observation.frame_shape)
        self._frames = np.zeros(shape, self._dtype)

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
        seed: Any = seeds[0] if self._takes_one_seed else list(seeds)
        with self._errors_wrapped("reset"):
            frame, _ = self._call_reset(seed=seed)
        self._ended = np.zeros(self.num_envs, np.bool_)
        frame = self._cast(frame)
        self._check_finite(frame, np.zeros(0))
        self._frames[:] = frame[:, None]

    def step(self, actions: np.ndarray) -> Step:
        """Take an action in each environment, and reset those whose episode has ended.

        Args:
          actions: Actions counted from 0, int [N].
        """
        with self._errors_wrapped("step"):
            frame, rewards, terminated, truncated, infos = self._call_step(
                actions + self._spec.first_action
            )
        frame = self._cast(frame)
        self._check_finite(frame, rewards)
        done = terminated | truncated
        last_frame = frame
        stepped, started = self._all_true, done
        if self._mode is AutoresetMode.NEXT_STEP:
            stepped, started = ~self._ended, self._ended
            self._ended = done
        elif done.any():
            last_frame = frame.copy()
            if self._mode is AutoresetMode.SAME_STEP:
                final = [self._cast(infos["final_obs"][i]) for i in np.flatnonzero(done)]
                last_frame[done] = np.stack(final)
            else:
                # Some vector classes return their own arrays, which the reset then clears.
                rewards, terminated, truncated = (
                    x.copy() for x in (rewards, terminated, truncated)
                )
                with self._errors_wrapped("reset"):
                    frame, _ = self._call_reset(options={"reset_mask": done})
                frame = self._cast(frame)
                self._check_finite(frame, np.zeros(0))
        self._push(frame, started)
        return Step(stepped, last_frame, rewards.astype(np.float32), terminated, truncated, started)

    def close(self) -> None:
        """Close the environments, and kill their processes even if these are busy."""
        self._watchdog.close()
        if isinstance(self._envs, AsyncVectorEnv):
            for process in self._envs.processes:
                process.kill()
                process.join()
            with contextlib.suppress(Exception):  # raised because the processes are gone
                self._envs.close(terminate=True)
        else:
            self._envs.close()

    def _call_step(self, actions: np.ndarray) -> Any:
        if isinstance(self._envs, AsyncVectorEnv):
            self._envs.step_async(actions)
            return self._envs.step_wait(timeout=self._timeout)
        with self._watchdog:
            return self._envs.step(actions)

    def _call_reset(self, **arguments: Any) -> Any:
        if isinstance(self._envs, AsyncVectorEnv):
            self._envs.reset_async(**arguments)
            return self._envs.reset_wait(timeout=self._timeout)
        with self._watchdog:
            return self._envs.reset(**arguments)

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

    def _check_finite(self, frame: np.ndarray, rewards: np.ndarray) -> None:
        # A single update would spread a NaN through the whole network, and hide where it came from.
        for name, numbers in (("a reward", rewards), ("an observation", frame)):
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                raise EnvironmentFailedError(
                    f"{self._spec.id!r} gave {name} that is not finite: {numbers.tolist()!r:.80}; "
                    "fix the environment, or clip the values by a wrapper in env.wrappers"
                )

    def _push(self, frame: np.ndarray, started: np.ndarray) -> None:
        if self._spec.observation.frame_stack > 1:
            self._frames[:, :-1] = self._frames[:, 1:]
        self._frames[:, -1] = frame
        if started.any():
            self._frames[started] = frame[started][:, None]

    def _cast(self, frame: np.ndarray) -> np.ndarray:
        return np.asarray(frame, self._dtype)


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
