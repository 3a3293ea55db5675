"""Environments that step together in Python, whatever way they have of starting anew."""

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
    """What one step of N environments gave. Arrays may be overwritten by the next step."""

    stepped: np.ndarray
    """bool [N]: the action was taken. Elsewhere the environment spent the step starting anew,
    and the other fields but `started` say nothing of it."""
    frame: np.ndarray
    """Where the actions led, [N, *frame_shape]: at an episode's end its true last frame."""
    reward: np.ndarray
    """float32 [N]."""
    terminated: np.ndarray
    """bool [N]: the episode ended in the process itself; nothing follows."""
    truncated: np.ndarray
    """bool [N]: the episode was cut; its value goes on."""
    started: np.ndarray
    """bool [N]: an episode has begun; its first frame stands in `VectorEnvironment.frame`."""

    @property
    def done(self) -> np.ndarray:
        """Bool [N]: the episode is over, either way."""
        done: np.ndarray = self.terminated | self.truncated
        return done


class VectorEnvironment:
    """Gymnasium's vector environments behind one contract for all their autoreset modes.

    The modes are those of https://farama.org/Vector-Autoreset-Mode. `same_step` and `disabled`
    take an action everywhere at each step; `next_step` spends the step after an end on the reset.
    """

    def __init__(
        self,
        config: EnvConfig,
        spec: EnvSpec,
        num_envs: int,
        wrappers: Sequence[WrapperConfig] | None = None,
    ) -> None:
        """Makes the environments.

        Args:
          config: How to make one, and how they are stepped.
          spec: Of one, as `factory.describe_env` gives it.
          num_envs: How many.
          wrappers: In place of the configuration's.

        Raises:
          UnsupportedEnvironmentError: They cannot be made, or reset in a way that is not known.
        """
        self.num_envs = num_envs
        self._spec = spec
        self._envs = factory.make_vector_env(config, num_envs, wrappers)
        mode = self._envs.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            self._envs.close()
            raise UnsupportedEnvironmentError(
                f"env.vectorization: the vector class of {config.id!r} says {mode!r} in its "
                "metadata['autoreset_mode'], which must be one of Gymnasium's AutoresetMode; "
                "take sync or async"
            )
        self._mode = mode
        self._timeout = config.step_timeout
        # Processes have a time limit of their own.
        in_processes = isinstance(self._envs, AsyncVectorEnv)
        self._watch = Watchdog(None if in_processes else config.step_timeout, spec.id)
        self._is_foreign = config.vectorization == "vector_entry_point"
        self._dtype = np.dtype(spec.observation.dtype)
        self._ended = np.zeros(num_envs, np.bool_)
        self._everywhere = np.ones(num_envs, np.bool_)
        stack = spec.observation.frame_stack
        shape = (num_envs, stack, *spec.observation.frame_shape)
        self._frames = np.zeros(shape, self._dtype)

    @property
    def frame(self) -> np.ndarray:
        """The newest frames, [N, *frame_shape]; of an episode that began, the first."""
        newest: np.ndarray = self._frames[:, -1]
        return newest

    @property
    def observation(self) -> np.ndarray:
        """What to act on, [N, *spec.shape].

        Before an episode's first frame stand copies of it, as in Gymnasium's
        `FrameStackObservation`.
        """
        return self.frame if self._spec.observation.frame_stack == 1 else self._frames

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts an episode in each environment, from a seed each."""
        # A vector class of the environment's own makes its seeds from one.
        given: Any = seeds[0] if self._is_foreign else list(seeds)
        with self._blamed("reset"):
            frame, _ = self._reset(seed=given)
        self._ended = np.zeros(self.num_envs, np.bool_)
        first = self._cast(frame)
        self._check_numbers(first, np.zeros(0))
        self._frames[:] = first[:, None]

    def step(self, actions: np.ndarray) -> Step:
        """Takes actions int [N], counted from 0, and starts ended episodes anew."""
        with self._blamed("step"):
            following, rewards, terminated, truncated, infos = self._take(
                actions + self._spec.first_action
            )
        following = self._cast(following)
        self._check_numbers(following, rewards)
        done = terminated | truncated
        outcome = following
        stepped, started = self._everywhere, done
        if self._mode is AutoresetMode.NEXT_STEP:
            stepped, started = ~self._ended, self._ended
            self._ended = done
        elif done.any():
            outcome = following.copy()
            if self._mode is AutoresetMode.SAME_STEP:
                ends = [self._cast(infos["final_obs"][i]) for i in np.flatnonzero(done)]
                outcome[done] = np.stack(ends)
            else:
                # The reset clears arrays that the step gave, where they are the class's own.
                rewards, terminated, truncated = (
                    x.copy() for x in (rewards, terminated, truncated)
                )
                with self._blamed("reset"):
                    fresh, _ = self._reset(options={"reset_mask": done})
                following = self._cast(fresh)
                self._check_numbers(following, np.zeros(0))
        self._push(following, started)
        return Step(stepped, outcome, rewards.astype(np.float32), terminated, truncated, started)

    def close(self) -> None:
        """Ends the environments and their processes, whatever those are doing."""
        self._watch.close()
        if isinstance(self._envs, AsyncVectorEnv):
            for process in self._envs.processes:
                process.kill()
                process.join()
            with contextlib.suppress(Exception):  # it misses the processes
                self._envs.close(terminate=True)
        else:
            self._envs.close()

    def _take(self, actions: np.ndarray) -> Any:
        if isinstance(self._envs, AsyncVectorEnv):
            self._envs.step_async(actions)
            return self._envs.step_wait(timeout=self._timeout)
        with self._watch:
            return self._envs.step(actions)

    def _reset(self, **arguments: Any) -> Any:
        if isinstance(self._envs, AsyncVectorEnv):
            self._envs.reset_async(**arguments)
            return self._envs.reset_wait(timeout=self._timeout)
        with self._watch:
            return self._envs.reset(**arguments)

    @contextmanager
    def _blamed(self, call: str) -> Iterator[None]:
        """What the environment's own code raises is its fault, and named as that."""
        if not isinstance(self._envs, AsyncVectorEnv):
            with wrap_env_errors(self._spec.id, call):
                yield
            return
        # What a process raises is raised here again; Gymnasium's warning is one too many.
        with _without_warnings(), wrap_env_errors(self._spec.id, call):
            try:
                yield
            except multiprocessing.TimeoutError as error:
                raise hang_error(self._spec.id, self._timeout) from error
            except (EOFError, ConnectionError) as error:
                raise EnvironmentFailedError(
                    f"a process of {self._spec.id!r} has died in {call} ({type(error).__name__}); "
                    "with env.vectorization=sync an environment says more of what happened"
                ) from error

    def _check_numbers(self, frame: np.ndarray, rewards: np.ndarray) -> None:
        """A NaN spreads through a network within one update, and names no cause there."""
        for what, numbers in (("a reward", rewards), ("an observation", frame)):
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                raise EnvironmentFailedError(
                    f"{self._spec.id!r} gave {what} that is not finite: {numbers.tolist()!r:.80}; "
                    "mend the environment, or clip by env.wrappers"
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
