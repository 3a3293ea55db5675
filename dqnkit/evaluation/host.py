"""Evaluation in Python."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from dqnkit._system.tensorflow import compiled, tf
from dqnkit.agents.policies import Policy
from dqnkit.config.seeds import EpisodeKeys, stream_seeds
from dqnkit.envs.vector import VectorEnvironment


class HostEvaluator:
    """Plays an episode in each of several Gymnasium environments (`Evaluator`)."""

    def __init__(
        self,
        policy: Policy,
        environment: VectorEnvironment,
        keys: EpisodeKeys,
        max_steps: int,
        avoided: Container[int] = (),
    ) -> None:
        """Compiles the policy.

        Args:
          policy: Acts.
          environment: As many as a batch has episodes.
          keys: Of the episodes.
          max_steps: Where an episode is broken off that the environment lets go on.
          avoided: Seeds that no environment is given.
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

    def prepare(self) -> None:
        """See `Evaluator`."""
        uniforms = np.zeros([self._environment.num_envs, self._num_uniforms])
        self._actions(tf.constant(self._environment.observation), tf.constant(uniforms))

    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Evaluator`."""
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
            # An environment that has ended goes on into episodes that nobody counts.
            step = self._environment.step(actions)
            returns[alive] += step.reward[alive]
            lengths += alive
            alive &= ~step.done
        return returns, lengths

    def close(self) -> None:
        """See `Evaluator`."""
        self._environment.close()
