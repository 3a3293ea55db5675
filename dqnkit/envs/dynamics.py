"""Interface of environments written as TensorFlow operations, and batches of them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from dqnkit._system.tensorflow import Tensor, tf


class Dynamics(Protocol):
    """A Markov decision process as pure functions of batches.

    States are float64, as in Gymnasium's own classes, so that whole episodes agree with Gymnasium
    and not only single steps. Observations are float32.
    """

    def __hash__(self) -> int:
        """Return the hash by which functions compiled for the dynamics are cached."""

    @property
    def id(self) -> str:
        """Gymnasium id of the environment."""

    @property
    def observation_size(self) -> int:
        """Number of values in an observation."""

    @property
    def num_actions(self) -> int:
        """Number of actions; they are counted from 0."""

    @property
    def state_size(self) -> int:
        """Number of values in a state."""

    @property
    def num_reset_uniforms(self) -> int:
        """Number of uniform random numbers that determine an initial state."""

    @property
    def num_step_uniforms(self) -> int:
        """Number of uniform random numbers that determine the outcome of a step."""

    @property
    def max_episode_steps(self) -> int:
        """Number of steps after which an episode is truncated."""

    def reset(self, uniforms: Tensor) -> Tensor:
        """Return initial states.

        Args:
          uniforms: Random numbers in [0, 1), float64 [B, num_reset_uniforms].

        Returns:
          States, float64 [B, state_size].
        """

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one action in each state.

        Args:
          state: States, float64 [B, state_size].
          action: Actions, int32 [B].
          uniforms: Random numbers in [0, 1), float64 [B, num_step_uniforms].

        Returns:
          Next states float64 [B, state_size], rewards float32 [B] and terminations bool [B].
        """

    def observe(self, state: Tensor) -> Tensor:
        """Return the observations of states.

        Args:
          state: States, float64 [B, state_size].

        Returns:
          Observations, float32 [B, observation_size].
        """


class EpisodeState(NamedTuple):
    """Running episodes of a batch of environments."""

    state: Tensor
    """Current states, float64 [B, state_size]."""
    elapsed: Tensor
    """Number of steps since the reset, int32 [B]."""


class Timestep(NamedTuple):
    """Result of one step of a batch of environments, before any reset."""

    observation: Tensor
    """Observations after the step, float32 [B, observation_size]. At the end of an episode this
    is its true last observation, never the first one of the next episode."""
    reward: Tensor
    """Rewards, float32 [B]."""
    terminated: Tensor
    """True where the step led to a terminal state, bool [B]."""
    truncated: Tensor
    """True where the time limit ended the episode, bool [B]; returns are bootstrapped."""

    @property
    def discount(self) -> Tensor:
        """Discounts, float32 [B]: 0 at a terminal state, 1 elsewhere, also at a time limit."""
        return 1.0 - tf.cast(self.terminated, tf.float32)

    @property
    def done(self) -> Tensor:
        """True where the episode is terminated or truncated, bool [B]."""
        return self.terminated | self.truncated


class BatchedEnvironment:
    """Independent copies of one environment that reset within the step that ends an episode.

    The time limit is that of Gymnasium's `TimeLimit` wrapper.
    """

    def __init__(self, dynamics: Dynamics) -> None:
        self.dynamics = dynamics

    @property
    def num_uniforms(self) -> int:
        """Number of uniform random numbers that `step` takes for each environment."""
        return self.dynamics.num_reset_uniforms + self.dynamics.num_step_uniforms

    def reset(self, uniforms: Tensor) -> EpisodeState:
        """Start an episode in each environment.

        Args:
          uniforms: Random numbers in [0, 1), float64 [B, num_reset_uniforms].
        """
        state = self.dynamics.reset(uniforms)
        return EpisodeState(state, tf.zeros_like(state[:, 0], dtype=tf.int32))

    def observe(self, episodes: EpisodeState) -> Tensor:
        """Return the current observations, float32 [B, observation_size]."""
        return self.dynamics.observe(episodes.state)

    def step(
        self, episodes: EpisodeState, action: Tensor, uniforms: Tensor
    ) -> tuple[EpisodeState, Timestep]:
        """Step each environment, and reset those whose episode has ended.

        Args:
          episodes: Episodes before the step.
          action: Actions, int32 [B].
          uniforms: Random numbers in [0, 1), float64 [B, num_uniforms].

        Returns:
          The episodes after the step and the resets, and the timestep before the resets.
        """
        reset_uniforms, step_uniforms = tf.split(
            uniforms, [self.dynamics.num_reset_uniforms, self.dynamics.num_step_uniforms], axis=1
        )
        state, reward, terminated = self.dynamics.step(episodes.state, action, step_uniforms)
        elapsed = episodes.elapsed + 1
        # As with Gymnasium's TimeLimit, an episode may be terminated and truncated in one step.
        truncated = elapsed >= self.dynamics.max_episode_steps
        timestep = Timestep(self.dynamics.observe(state), reward, terminated, truncated)
        done = timestep.done
        initial_state = self.dynamics.reset(reset_uniforms)
        return (
            EpisodeState(
                tf.where(done[:, None], initial_state, state),
                tf.where(done, tf.zeros_like(elapsed), elapsed),
            ),
            timestep,
        )
