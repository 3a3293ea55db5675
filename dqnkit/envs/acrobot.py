"""Acrobot as TensorFlow operations; matches `gymnasium.envs.classic_control.AcrobotEnv`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dqnkit._system.tensorflow import Tensor, tf

TIME_STEP = 0.2
GRAVITY = 9.8
LINK_MASS = 1.0
LINK_LENGTH = 1.0
CENTRE_OF_MASS = 0.5
INERTIA = 1.0
MAX_VELOCITY_1, MAX_VELOCITY_2 = 4 * math.pi, 9 * math.pi
RESET_BOUND = 0.1


@dataclass(frozen=True)
class Acrobot:
    """Swing up a pendulum of two links by a torque on the joint between them (Sutton, 1996).

    The equations are those of Sutton and Barto's book. The state is (angle 1, angle 2, angular
    velocity 1, angular velocity 2), integrated by the fourth-order Runge-Kutta method. The reward
    is -1 per step, and 0 for the step after which the tip is one link length above the pivot.
    """

    id: str = "Acrobot-v1"
    max_episode_steps: int = 500
    observation_size: int = 6
    num_actions: int = 3
    state_size: int = 4
    num_reset_uniforms: int = 4
    num_step_uniforms: int = 0

    def reset(self, uniforms: Tensor) -> Tensor:
        """Draw initial states from [-0.1, 0.1), rounded to float32 as Gymnasium does."""
        state = (2.0 * uniforms - 1.0) * RESET_BOUND
        return tf.cast(tf.cast(state, tf.float32), tf.float64)

    def step(
        self, state: Tensor, action: Tensor, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply a torque of `action - 1` for one time step."""
        del uniforms
        torque = tf.cast(action, state.dtype) - 1.0
        half = TIME_STEP / 2.0
        k1 = _derivative(state, torque)
        k2 = _derivative(state + half * k1, torque)
        k3 = _derivative(state + half * k2, torque)
        k4 = _derivative(state + TIME_STEP * k3, torque)
        state = state + TIME_STEP / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        angle_1, angle_2, velocity_1, velocity_2 = tf.unstack(state, axis=1)
        angle_1, angle_2 = _wrap(angle_1), _wrap(angle_2)
        velocity_1 = tf.clip_by_value(velocity_1, -MAX_VELOCITY_1, MAX_VELOCITY_1)
        velocity_2 = tf.clip_by_value(velocity_2, -MAX_VELOCITY_2, MAX_VELOCITY_2)
        terminated = -tf.cos(angle_1) - tf.cos(angle_2 + angle_1) > 1.0
        reward = tf.cast(terminated, tf.float32) - 1.0
        return tf.stack([angle_1, angle_2, velocity_1, velocity_2], axis=1), reward, terminated

    def observe(self, state: Tensor) -> Tensor:
        """Return cosine and sine of angle 1, cosine and sine of angle 2, and both velocities."""
        angle_1, angle_2, velocity_1, velocity_2 = tf.unstack(state, axis=1)
        features = [
            tf.cos(angle_1),
            tf.sin(angle_1),
            tf.cos(angle_2),
            tf.sin(angle_2),
            velocity_1,
            velocity_2,
        ]
        return tf.cast(tf.stack(features, axis=1), tf.float32)


def _derivative(state: Tensor, torque: Tensor) -> Tensor:
    """Return the time derivative of the state [B, 4] under a torque [B] on the joint."""
    theta_1, theta_2, omega_1, omega_2 = tf.unstack(state, axis=1)
    cos_2, sin_2 = tf.cos(theta_2), tf.sin(theta_2)
    m, l1, lc = LINK_MASS, LINK_LENGTH, CENTRE_OF_MASS
    d1 = m * lc**2 + m * (l1**2 + lc**2 + 2 * l1 * lc * cos_2) + 2 * INERTIA
    d2 = m * (lc**2 + l1 * lc * cos_2) + INERTIA
    phi_2 = m * lc * GRAVITY * tf.cos(theta_1 + theta_2 - math.pi / 2)
    phi_1 = (
        -m * l1 * lc * omega_2**2 * sin_2
        - 2 * m * l1 * lc * omega_2 * omega_1 * sin_2
        + (m * lc + m * l1) * GRAVITY * tf.cos(theta_1 - math.pi / 2)
        + phi_2
    )
    alpha_2 = (torque + d2 / d1 * phi_1 - m * l1 * lc * omega_1**2 * sin_2 - phi_2) / (
        m * lc**2 + INERTIA - d2**2 / d1
    )
    alpha_1 = -(d2 * alpha_2 + phi_1) / d1
    return tf.stack([omega_1, omega_2, alpha_1, alpha_2], axis=1)


def _wrap(angle: Tensor) -> Tensor:
    """Wrap angles into [-pi, pi]; angles within these bounds are returned unchanged."""
    turns = tf.where(
        angle > math.pi,
        tf.math.ceil((angle - math.pi) / (2 * math.pi)),
        tf.where(
            angle < -math.pi,
            -tf.math.ceil((-math.pi - angle) / (2 * math.pi)),
            tf.zeros_like(angle),
        ),
    )
    return angle - turns * (2 * math.pi)
