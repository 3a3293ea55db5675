"""Evaluation in Gymnasium environments."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from typing_extensions import override

from dqnkit._system.tensorflow import compiled, tf
from dqnkit.agents.policies import Policy
from dqnkit.config.random_streams import EpisodeKeys, stream_seeds
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation.base import Evaluator


class HostEvaluator(Evaluator):
    """Plays one episode in each environment of a vector; only the policy is compiled."""

    def __init__(
        self,
        policy: Policy,
        environment: VectorEnvironment,
        keys: EpisodeKeys,
        max_steps: int,
        avoided: Container[int] = (),
    ) -> None:
        """Compile the policy.

        Args:
          policy: The policy that chooses the actions.
          environment: Environments, one per episode of a batch; closed by `close`.
          keys: Random keys of the episodes.
          max_steps: Number of steps after which an episode is cut off.
          avoided: Seeds that are never used to reset an environment, such as those of training.
        """
        self._environment = environment
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
    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        num_episodes = self._environment.num_envs
        returns = np.zeros(num_episodes, np.float32)
        lengths = np.zeros(num_episodes, np.int32)
        alive = np.ones(num_episodes, np.bool_)
        seeds = stream_seeds(self._keys.resets, counter, num_episodes, self._avoided)
        self._environment.reset(seeds)
        rng = np.random.default_rng([self._keys.steps, counter % 2**64])
        while alive.any() and lengths.max() < self._max_steps:
            uniforms = tf.constant(rng.random([num_episodes, self._num_uniforms]))
            observation = tf.constant(self._environment.observation)
            actions = self._actions(observation, uniforms).numpy()
            # An environment whose episode is over starts another one, which is not counted.
            step = self._environment.step(actions)
            returns[alive] += step.reward[alive]
            lengths += alive
            alive &= ~step.done
        return returns, lengths

    @override
    def close(self) -> None:
        self._environment.close()
