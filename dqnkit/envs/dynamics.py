"""What an environment must offer to live in the graph, and its batch with time limit and reset."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from dqnkit._system.tensorflow import Tensor, tf


class Dynamics(Protocol):
    """A Markov decision process as pure functions of batches.

    States are float64, as Gymnasium's own classes compute them, so that whole episodes agree
    and not only single steps; observations are float32.
    """

    def __hash__(self) -> int:
        """Of the object: what is compiled of it is kept by it."""

    @property
    def id(self) -> str:
        """Gymnasium's id of it."""

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""

    @property
    def num_actions(self) -> int:
        """Actions, numbered from 0."""

    @property
    def state_size(self) -> int:
        """Numbers in a state."""

    @property
    def num_reset_uniforms(self) -> int:
        """Random numbers that an initial state takes."""

    @property
    def num_step_uniforms(self) -> int:
        """Random numbers that a step takes."""

    @property
    def max_episode_steps(self) -> int:
        """The time limit."""

    def reset(self, uniforms: Tensor) -> Tensor:
        """Initial states [B, state_size] from uniforms [B, num_reset_uniforms] in [0, 1)."""

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Successors of states under actions.

        Args:
          state: float64 [B, state_size].
          action: int32 [B].
          uniforms: float64 [B, num_step_uniforms] in [0, 1).

        Returns:
          Next state float64 [B, state_size], reward float32 [B], terminated bool [B].
        """

    def observe(self, state: Tensor) -> Tensor:
        """Observations float32 [B, observation_size] of states float64 [B, state_size]."""


class EpisodeState(NamedTuple):
    """Where each environment of a batch is in its episode."""

    state: Tensor
    """float64 [B, state_size]."""
    elapsed: Tensor
    """Steps since the reset, int32 [B]."""


class Timestep(NamedTuple):
    """What one step of a batch gave, before any reset."""

    observation: Tensor
    """Where the actions led, float32 [B, observation_size]: at an episode's end the true last
    observation, never the first one of the next episode."""
    reward: Tensor
    """float32 [B]."""
    terminated: Tensor
    """bool [B]: the episode ended in the process itself; nothing follows."""
    truncated: Tensor
    """bool [B]: the time limit cut the episode; its value goes on."""

    @property
    def discount(self) -> Tensor:
        """0 at a terminal state and 1 elsewhere, a time limit included; float32 [B]."""
        return 1.0 - tf.cast(self.terminated, tf.float32)

    @property
    def done(self) -> Tensor:
        """Bool [B]: the episode is over, either way."""
        return self.terminated | self.truncated


class BatchedEnvironment:
    """Independent copies of one environment: time limit as Gymnasium's, reset within the step."""

    def __init__(self, dynamics: Dynamics) -> None:
        self.dynamics = dynamics

    @property
    def num_uniforms(self) -> int:
        """Random numbers that `step` takes for each environment."""
        return self.dynamics.num_reset_uniforms + self.dynamics.num_step_uniforms

    def reset(self, uniforms: Tensor) -> EpisodeState:
        """Starts an episode in each environment; uniforms as `Dynamics.reset` takes them."""
        state = self.dynamics.reset(uniforms)
        return EpisodeState(state, tf.zeros_like(state[:, 0], dtype=tf.int32))

    def observe(self, episodes: EpisodeState) -> Tensor:
        """Current observations, float32 [B, observation_size]."""
        return self.dynamics.observe(episodes.state)

    def step(
        self, episodes: EpisodeState, action: Tensor, uniforms: Tensor
    ) -> tuple[EpisodeState, Timestep]:
        """Steps each environment; one that ends starts anew at once.

        Args:
          episodes: Where they are.
          action: int32 [B].
          uniforms: float64 [B, num_uniforms] in [0, 1).
        """
        resets, steps = tf.split(
            uniforms, [self.dynamics.num_reset_uniforms, self.dynamics.num_step_uniforms], axis=1
        )
        state, reward, terminated = self.dynamics.step(episodes.state, action, steps)
        elapsed = episodes.elapsed + 1
        # As Gymnasium's TimeLimit: an episode may be terminated and truncated in one step.
        truncated = elapsed >= self.dynamics.max_episode_steps
        timestep = Timestep(self.dynamics.observe(state), reward, terminated, truncated)
        done = timestep.done
        fresh = self.dynamics.reset(resets)
        return (
            EpisodeState(
                tf.where(done[:, None], fresh, state),
                tf.where(done, tf.zeros_like(elapsed), elapsed),
            ),
            timestep,
        )
