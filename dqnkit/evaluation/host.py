"""Evaluation in Python."""

from __future__ import annotations

import numpy as np

from dqnkit.envs.vector import VectorEnvironment
from dqnkit.policies import GreedyPolicy
from dqnkit.runtime import compiled, tf
from dqnkit.seeds import Stream, stream_key, stream_seeds


class HostEvaluator:
    """Plays an episode in each of several Gymnasium environments (`Evaluator`)."""

    def __init__(
        self, policy: GreedyPolicy, environment: VectorEnvironment, seed: int, max_steps: int
    ) -> None:
        """Compiles the policy.

        Args:
          policy: Acts.
          environment: As many as a batch has episodes.
          seed: Of the run.
          max_steps: Where an episode is broken off that the environment lets go on.
        """
        self._environment = environment
        self._key = stream_key(seed, Stream.EVALUATION)
        self._max_steps = max_steps
        observation = policy.spec.observation
        self._actions = compiled(
            policy.actions,
            tf.TensorSpec([environment.num_envs, *observation.shape], observation.dtype),
        )

    def prepare(self) -> None:
        """See `Evaluator`."""
        self._actions(tf.constant(self._environment.observation))

    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Evaluator`."""
        num_episodes = self._environment.num_envs
        returns = np.zeros(num_episodes, np.float32)
        lengths = np.zeros(num_episodes, np.int32)
        alive = np.ones(num_episodes, np.bool_)
        self._environment.reset(stream_seeds(self._key, counter, num_episodes))
        while alive.any() and lengths.max() < self._max_steps:
            actions = self._actions(tf.constant(self._environment.observation)).numpy()
            # An environment that has ended goes on into episodes that nobody counts.
            step = self._environment.step(actions)
            returns[alive] += step.reward[alive]
            lengths += alive
            alive &= ~step.done
        return returns, lengths

    def close(self) -> None:
        """See `Evaluator`."""
        self._environment.close()
