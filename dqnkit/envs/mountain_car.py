"""MountainCar as TensorFlow operations.

Matches `gymnasium.envs.classic_control.MountainCarEnv`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dqnkit._system.tensorflow import Tensor, tf

MIN_POSITION, MAX_POSITION = -1.2, 0.6
MAX_SPEED = 0.07
GOAL_POSITION = 0.5
GOAL_VELOCITY = 0.0
FORCE = 0.001
GRAVITY = 0.0025
RESET_LOW, RESET_HIGH = -0.6, -0.4


@dataclass(frozen=True)
class MountainCar:
    """Drive a car out of a valley whose slope is too steep for its engine (Moore, 1990).

    The state is (position, velocity). The reward is -1 per step, the last one included.
    """

    id: str = "MountainCar-v0"
    max_episode_steps: int = 200
    observation_size: int = 2
    num_actions: int = 3
    state_size: int = 2
    num_reset_uniforms: int = 1
    num_step_uniforms: int = 0

    def reset(self, uniforms: Tensor) -> Tensor:
        """Draw initial positions uniformly from [-0.6, -0.4); the velocity is 0."""
        position = RESET_LOW + (RESET_HIGH - RESET_LOW) * uniforms
        return tf.concat([position, tf.zeros_like(position)], axis=1)

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Accelerate to the left (0), not at all (1) or to the right (2) for one time step."""
        del uniforms
        position, velocity = tf.unstack(state, axis=1)
        push = (tf.cast(action, state.dtype) - 1.0) * FORCE
        velocity = velocity + push - tf.cos(3.0 * position) * GRAVITY
        velocity = tf.clip_by_value(velocity, -MAX_SPEED, MAX_SPEED)
        position = tf.clip_by_value(position + velocity, MIN_POSITION, MAX_POSITION)
        at_the_wall = (position <= MIN_POSITION) & (velocity < 0.0)
        velocity = tf.where(at_the_wall, tf.zeros_like(velocity), velocity)
        terminated = (position >= GOAL_POSITION) & (velocity >= GOAL_VELOCITY)
        reward = -tf.ones_like(position, dtype=tf.float32)
        return tf.stack([position, velocity], axis=1), reward, terminated

    def observe(self, state: Tensor) -> Tensor:
        """Return the states as float32."""
        return tf.cast(state, tf.float32)
