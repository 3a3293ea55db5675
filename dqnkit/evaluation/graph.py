"""Evaluation in the graph."""

from __future__ import annotations

import numpy as np

from dqnkit._system.random_bits import draw, uniform
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.agents.policies import Policy
from dqnkit.config.seeds import EpisodeKeys
from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics, EpisodeState


class GraphEvaluator:
    """Plays all episodes of an evaluation as one compiled batch (`Evaluator`)."""

    def __init__(
        self,
        policy: Policy,
        dynamics: Dynamics,
        num_episodes: int,
        keys: EpisodeKeys,
        max_steps: int,
    ) -> None:
        """Lays out the batch.

        Args:
          policy: Acts.
          dynamics: The environment.
          num_episodes: In a batch.
          keys: Of the episodes.
          max_steps: Where an episode is broken off that the environment lets go on.
        """
        self._policy = policy
        self._environment = BatchedEnvironment(dynamics)
        self._num_episodes = num_episodes
        self._max_steps = max_steps
        self._keys = keys
        self._play = tf.function(self._play_batch, jit_compile=True, autograph=False)

    def prepare(self) -> None:
        """See `Evaluator`."""
        self.play(0)

    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Evaluator`."""
        returns, lengths = self._play(tf.constant(counter, tf.int64))
        return returns.numpy(), lengths.numpy()

    def close(self) -> None:
        """See `Evaluator`: there is nothing to end."""

    def _play_batch(self, counter: Tensor) -> tuple[Tensor, Tensor]:
        num_episodes = self._num_episodes
        drawn = [self._environment.dynamics.num_step_uniforms, self._policy.num_uniforms]
        first = self._uniforms(
            self._keys.resets, counter, self._environment.dynamics.num_reset_uniforms
        )

        def body(
            step: Tensor, episodes: EpisodeState, alive: Tensor, returns: Tensor, lengths: Tensor
        ) -> tuple[Tensor, EpisodeState, Tensor, Tensor, Tensor]:
            # Steps of one counter never reach those of the next.
            by_environment, by_policy = tf.split(
                self._uniforms(self._keys.steps, counter * 2**32 + step, sum(drawn)), drawn, axis=1
            )
            action = self._policy.actions(self._environment.observe(episodes), by_policy)
            # An environment that has ended goes on into episodes that nobody counts.
            episodes, timestep = self._environment.step(
                episodes, action, tf.concat([first, by_environment], axis=1)
            )
            returns += tf.where(alive, timestep.reward, tf.zeros_like(returns))
            lengths += tf.cast(alive, tf.int32)
            return step + 1, episodes, alive & ~timestep.done, returns, lengths

        start = (
            tf.constant(0, tf.int64),
            self._environment.reset(first),
            tf.ones([num_episodes], tf.bool),
            tf.zeros([num_episodes]),
            tf.zeros([num_episodes], tf.int32),
        )
        *_, returns, lengths = tf.while_loop(
            lambda step, _, alive, *__: tf.reduce_any(alive) & (step < self._max_steps),
            body,
            start,
        )
        return returns, lengths

    def _uniforms(self, key: int, counter: Tensor, each: int) -> Tensor:
        """float64 [num_episodes, each]; nothing is drawn where `each` is 0."""
        if each == 0:
            return tf.zeros([self._num_episodes, 0], tf.float64)
        bits = draw(tf.constant(key, tf.int64), counter, self._num_episodes * each)
        return tf.reshape(uniform(bits), [self._num_episodes, each])
