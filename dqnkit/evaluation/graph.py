"""Evaluation inside the TensorFlow graph."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from dqnkit._system.random_bits import draw, uniform
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.agents.policies import Policy
from dqnkit.config.random_streams import EpisodeKeys
from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics, EpisodeState
from dqnkit.evaluation.base import Evaluator, Watch, unwatched


class GraphEvaluator(Evaluator):
    """Plays all episodes of a batch in one XLA-compiled loop."""

    def __init__(
        self,
        policy: Policy,
        dynamics: Dynamics,
        num_episodes: int,
        keys: EpisodeKeys,
        max_steps: int,
    ) -> None:
        """Create the compiled function, which is traced when it is first called.

        Args:
          policy: The policy that chooses the actions.
          dynamics: Dynamics of the environment.
          num_episodes: Number of episodes per batch.
          keys: Random keys of the episodes.
          max_steps: Number of steps after which an episode is cut off.
        """
        self._policy = policy
        self._environment = BatchedEnvironment(dynamics)
        self._num_episodes = num_episodes
        self._max_steps = max_steps
        self._keys = keys
        self._play = tf.function(self._play_batch, jit_compile=True, autograph=False)

    @override
    def prepare(self) -> None:
        self.play(0)

    @override
    def play(self, counter: int, watch: Watch = unwatched) -> tuple[np.ndarray, np.ndarray]:
        del watch  # one call plays the whole batch
        returns, lengths = self._play(tf.constant(counter, tf.int64))
        return returns.numpy(), lengths.numpy()

    @override
    def close(self) -> None:
        """Do nothing: the batch holds no resources outside the graph."""

    def _play_batch(self, counter: Tensor) -> tuple[Tensor, Tensor]:
        num_episodes = self._num_episodes
        sizes = [self._environment.dynamics.num_step_uniforms, self._policy.num_uniforms]
        reset_uniforms = self._uniforms(
            self._keys.resets, counter, self._environment.dynamics.num_reset_uniforms
        )

        def body(
            step: Tensor, episodes: EpisodeState, alive: Tensor, returns: Tensor, lengths: Tensor
        ) -> tuple[Tensor, EpisodeState, Tensor, Tensor, Tensor]:
            # Each batch has 2**32 counters to itself, more than an episode has steps.
            uniforms = self._uniforms(self._keys.steps, counter * 2**32 + step, sum(sizes))
            step_uniforms, policy_uniforms = tf.split(uniforms, sizes, axis=1)
            action = self._policy.actions(self._environment.observe(episodes), policy_uniforms)
            # An environment whose episode is over starts another one, which is not counted.
            episodes, timestep = self._environment.step(
                episodes, action, tf.concat([reset_uniforms, step_uniforms], axis=1)
            )
            returns += tf.where(alive, timestep.reward, tf.zeros_like(returns))
            lengths += tf.cast(alive, tf.int32)
            return step + 1, episodes, alive & ~timestep.done, returns, lengths

        start = (
            tf.constant(0, tf.int64),
            self._environment.reset(reset_uniforms),
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

    def _uniforms(self, key: int, counter: Tensor, size: int) -> Tensor:
        """Draw uniform numbers in [0, 1), float64 [num_episodes, size]; `size` may be 0."""
        if size == 0:
            return tf.zeros([self._num_episodes, 0], tf.float64)
        bits = draw(tf.constant(key, tf.int64), counter, self._num_episodes * size)
        return tf.reshape(uniform(bits), [self._num_episodes, size])
