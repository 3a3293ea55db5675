"""CartPole as TensorFlow operations; matches `gymnasium.envs.classic_control.CartPoleEnv`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dqnkit._system.tensorflow import Tensor, tf

GRAVITY = 9.8
POLE_MASS = 0.1
TOTAL_MASS = 1.0 + POLE_MASS
HALF_LENGTH = 0.5
POLE_MASS_LENGTH = POLE_MASS * HALF_LENGTH
FORCE = 10.0
TIME_STEP = 0.02
MAX_POSITION = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
RESET_BOUND = 0.05


@dataclass(frozen=True)
class CartPole:
    """Balance a pole on a cart (Barto, Sutton and Anderson, 1983).

    The state is (position, velocity, angle, angular velocity), integrated by Euler's method. The
    reward is 1 per step, the last one included.
    """

    id: str = "CartPole-v1"
    max_episode_steps: int = 500
    observation_size: int = 4
    num_actions: int = 2
    state_size: int = 4
    num_reset_uniforms: int = 4
    num_step_uniforms: int = 0

    def reset(self, uniforms: Tensor) -> Tensor:
        """Draw each number of the initial states uniformly from [-0.05, 0.05)."""
        return (2.0 * uniforms - 1.0) * RESET_BOUND

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Push the cart to the left (action 0) or to the right (action 1) for one time step."""
        del uniforms
        x, x_dot, theta, theta_dot = tf.unstack(state, axis=1)
        force = FORCE * (2.0 * tf.cast(action, state.dtype) - 1.0)
        cos, sin = tf.cos(theta), tf.sin(theta)
        pull = (force + POLE_MASS_LENGTH * tf.square(theta_dot) * sin) / TOTAL_MASS
        theta_acc = (GRAVITY * sin - cos * pull) / (
            HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * tf.square(cos) / TOTAL_MASS)
        )
        x_acc = pull - POLE_MASS_LENGTH * theta_acc * cos / TOTAL_MASS
        x, x_dot = x + TIME_STEP * x_dot, x_dot + TIME_STEP * x_acc
        theta, theta_dot = theta + TIME_STEP * theta_dot, theta_dot + TIME_STEP * theta_acc
        terminated = (tf.abs(x) > MAX_POSITION) | (tf.abs(theta) > MAX_ANGLE)
        reward = tf.ones_like(x, dtype=tf.float32)
        return tf.stack([x, x_dot, theta, theta_dot], axis=1), reward, terminated

    def observe(self, state: Tensor) -> Tensor:
        """Return the states as float32."""
        return tf.cast(state, tf.float32)
