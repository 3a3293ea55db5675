"""Evaluation in Gymnasium environments."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import numpy as np
from typing_extensions import override

from dqnkit._system.tensorflow import compiled, tf
from dqnkit.agents.policies import Policy
from dqnkit.config.random_streams import EpisodeKeys, stream_seeds
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import EnvironmentFailedError, InterruptedRun
from dqnkit.evaluation.base import Evaluator, Watch, unwatched, watch_from


class HostEvaluator(Evaluator):
    """Plays episodes in the environments of a vector, one in each at a time.

    Only the policy is compiled. The vector may be that of training (`evaluation.shares_environment`
    of the configuration), which the caller then owns.
    """

    def __init__(
        self,
        policy: Policy,
        environment: VectorEnvironment,
        num_episodes: int,
        keys: EpisodeKeys,
        max_steps: int,
        avoided: Container[int] = (),
        after: Callable[[], None] | None = None,
    ) -> None:
        """Compile the policy.

        Args:
          policy: The policy that chooses the actions.
          environment: Environments; closed by `close` unless `after` is given.
          num_episodes: Number of episodes per batch.
          keys: Random keys of the episodes.
          max_steps: Number of steps after which an episode is cut off.
          avoided: Seeds that are never used to reset an environment, such as those of training.
          after: Called after a batch, if the environments belong to the caller.
        """
        self._env_id = policy.spec.id
        self._environment = environment
        self._num_episodes = num_episodes
        self._after = after
        self._keys = keys
        self._avoided = avoided
        self._max_steps = max_steps
        observation = policy.spec.observation
        self._actions = compiled(
            policy.actions,
            tf.TensorSpec([environment.num_envs, *observation.shape], observation.dtype),
            tf.TensorSpec([environment.num_envs, policy.num_uniforms], tf.float64),
        )
        self._num_uniforms = policy.num_uniforms

    @override
    def prepare(self) -> None:
        uniforms = np.zeros([self._environment.num_envs, self._num_uniforms])
        self._actions(tf.constant(self._environment.observation), tf.constant(uniforms))

    @override
    def play(self, counter: int, watch: Watch = unwatched) -> tuple[np.ndarray, np.ndarray]:
        seeds = stream_seeds(self._keys.resets, counter, self._num_episodes, self._avoided)
        rng = np.random.default_rng([self._keys.steps, counter % 2**64])
        size = self._environment.num_envs
        played = []
        try:
            for start in range(0, self._num_episodes, size):
                watch_these = watch_from(watch, start)
                played.append(self._play_together(seeds[start : start + size], rng, watch_these))
        except (EnvironmentFailedError, InterruptedRun):
            raise  # an environment that failed or hangs is not used any more
        except Exception:  # of `watch`
            self._give_back()
            raise
        self._give_back()
        returns, lengths = (
            np.concatenate(each)[: self._num_episodes] for each in zip(*played, strict=True)
        )
        return returns, lengths

    def _give_back(self) -> None:
        if self._after is not None:
            self._after()

    def _play_together(
        self, seeds: Sequence[int], rng: np.random.Generator, watch: Watch
    ) -> tuple[np.ndarray, np.ndarray]:
        """Play one episode in each environment; return their returns and lengths."""
        size = self._environment.num_envs
        returns = np.zeros(size, np.float32)
        lengths = np.zeros(size, np.int32)
        alive = np.arange(size) < len(seeds)  # the last episodes may be fewer than environments
        self._environment.reset([*seeds, *[seeds[-1]] * (size - len(seeds))])
        while alive.any() and lengths.max() < self._max_steps:
            uniforms = tf.constant(rng.random([size, self._num_uniforms]))
            observation = tf.constant(self._environment.observation)
            actions = self._actions(observation, uniforms).numpy()
            # An environment whose episode is over starts another one, which is not counted.
            step = self._environment.step(actions)
            with np.errstate(over="ignore"):  # checked below
                returns[alive] += step.reward[alive]
            lengths += alive
            alive &= ~step.done
            watch(len(seeds) - int(np.count_nonzero(alive)), int(lengths.max()))
        if not np.isfinite(returns).all():
            raise EnvironmentFailedError(
                f"{self._env_id!r}: the return of an evaluation episode is beyond float32, which "
                f"holds at most {np.finfo(np.float32).max:.3g}; clip the rewards by "
                "gymnasium.wrappers.ClipReward in env.wrappers, or divide them by a wrapper of "
                "your own"
            )
        return returns[: len(seeds)], lengths[: len(seeds)]

    @override
    def warnings(self) -> list[str]:
        return [] if self._after else self._environment.take_warnings()

    @override
    def close(self) -> None:
        if self._after is None:
            self._environment.close()
