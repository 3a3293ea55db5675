"""Greedy episodes of a policy, in environments and with seeds of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics, EpisodeState
from dqnkit.policies import GreedyPolicy
from dqnkit.random_bits import draw, uniform
from dqnkit.runtime import Tensor, tf
from dqnkit.seeds import Stream, stream_key
from dqnkit.statistics import Summary, summarize


@dataclass(frozen=True)
class Evaluation:
    """The episodes of one evaluation."""

    iteration: int
    """Training iterations that the policy had seen."""
    env_steps: int
    """Environment steps that it had seen."""
    returns: tuple[float, ...]
    """Undiscounted return of each episode."""
    lengths: tuple[int, ...]

    @property
    def summary(self) -> Summary:
        """Statistics of the returns."""
        return summarize(np.asarray(self.returns))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
        }


class GraphEvaluator:
    """Plays all episodes of an evaluation as one compiled batch."""

    def __init__(
        self, policy: GreedyPolicy, dynamics: Dynamics, num_episodes: int, seed: int
    ) -> None:
        self._policy = policy
        self._environment = BatchedEnvironment(dynamics)
        self._shape = [num_episodes, dynamics.num_reset_uniforms]
        self._key = stream_key(seed, Stream.EVALUATION)
        self._play = tf.function(self._play_batch, jit_compile=True, autograph=False)

    def play(self, counter: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of episodes with the policy's present weights.

        Args:
          counter: Picks the episodes' initial states: the same for the same seed and counter.

        Returns:
          Returns float32 [num_episodes], lengths int32 [num_episodes].
        """
        returns, lengths = self._play(tf.constant(counter, tf.int64))
        return returns.numpy(), lengths.numpy()

    def _play_batch(self, counter: Tensor) -> tuple[Tensor, Tensor]:
        num_episodes = self._shape[0]
        key = tf.constant(self._key, tf.int64)
        uniforms = tf.reshape(
            uniform(draw(key, counter, self._shape[0] * self._shape[1])), self._shape
        )

        def body(
            episodes: EpisodeState, alive: Tensor, returns: Tensor, lengths: Tensor
        ) -> tuple[EpisodeState, Tensor, Tensor, Tensor]:
            action = self._policy.actions(self._environment.observe(episodes))
            # An environment that has ended goes on into episodes that nobody counts.
            episodes, timestep = self._environment.step(episodes, action, uniforms)
            returns += tf.where(alive, timestep.reward, tf.zeros_like(returns))
            lengths += tf.cast(alive, tf.int32)
            return episodes, alive & ~timestep.done, returns, lengths

        start = (
            self._environment.reset(uniforms),
            tf.ones([num_episodes], tf.bool),
            tf.zeros([num_episodes]),
            tf.zeros([num_episodes], tf.int32),
        )
        _, _, returns, lengths = tf.while_loop(
            lambda _, alive, *__: tf.reduce_any(alive), body, start
        )
        return returns, lengths
