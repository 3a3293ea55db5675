from __future__ import annotations

import math

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.envs import acrobot
from dqnkit.envs.acrobot import Acrobot

ACROBOT = Acrobot()
LEFT, NO_TORQUE, RIGHT = 0, 1, 2


def _step(state: list[float], action: int) -> tuple[np.ndarray, float, bool]:
    following, reward, terminated = ACROBOT.step(
        tf.constant([state], tf.float64), tf.constant([action]), tf.zeros([1, 0], tf.float64)
    )
    assert (following.dtype, reward.dtype) == (tf.float64, tf.float32)
    return following.numpy()[0], float(reward[0]), bool(terminated[0])


def _energy(state: np.ndarray) -> float:
    """Kinetic and potential energy, by the positions and velocities of both centres of mass."""
    theta_1, theta_2, omega_1, omega_2 = state
    both, omega = theta_1 + theta_2, omega_1 + omega_2
    heights = [-0.5 * math.cos(theta_1), -math.cos(theta_1) - 0.5 * math.cos(both)]
    speeds = [
        np.array([math.cos(theta_1), math.sin(theta_1)]) * 0.5 * omega_1,
        np.array([math.cos(theta_1), math.sin(theta_1)]) * omega_1
        + np.array([math.cos(both), math.sin(both)]) * 0.5 * omega,
    ]
    rotation = 0.5 * (omega_1**2 + omega**2)
    return float(9.8 * sum(heights) + sum(0.5 * v @ v for v in speeds) + rotation)


def test_it_hangs_still_without_torque() -> None:
    following, reward, terminated = _step([0.0, 0.0, 0.0, 0.0], NO_TORQUE)
    np.testing.assert_allclose(following, np.zeros(4), atol=1e-13)
    assert (reward, terminated) == (-1.0, False)


def test_energy_is_conserved_without_torque() -> None:
    # Up to 10 J are kinetic; the integrator, with its long steps, loses less than 1 % of them.
    state = np.array([1.2, -0.4, 0.3, -0.2])
    before = _energy(state)
    for _ in range(50):
        state, _, _ = _step(list(state), NO_TORQUE)
        assert _energy(state) == pytest.approx(before, abs=0.1)


def test_torque_does_work_on_the_second_link() -> None:
    state = [0.3, 0.2, 0.0, 1.0]
    energies = [_energy(_step(state, action)[0]) for action in (LEFT, NO_TORQUE, RIGHT)]
    assert energies == sorted(energies)  # its velocity is positive
    assert energies[2] - energies[0] > 0.1


def test_left_and_right_are_mirror_images() -> None:
    state = [0.4, -1.1, 0.9, 2.0]
    following, _, _ = _step(state, RIGHT)
    mirrored, _, _ = _step([-x for x in state], LEFT)
    np.testing.assert_allclose(mirrored, -following, rtol=1e-12)


def test_the_tip_above_the_line_ends_the_episode_at_no_cost() -> None:
    _, reward, terminated = _step([math.pi, 0.0, 0.0, 0.0], NO_TORQUE)
    assert (reward, terminated) == (0.0, True)
    _, reward, terminated = _step([math.pi / 2, 0.0, 0.0, 0.0], NO_TORQUE)
    assert (reward, terminated) == (-1.0, False)


@pytest.mark.parametrize("sign", [-1, 1])
def test_velocities_are_limited(sign: int) -> None:
    following, _, _ = _step([0.1, 0.1, sign * 1e3, -sign * 1e3], NO_TORQUE)
    assert abs(following[2]) == 4 * math.pi
    assert abs(following[3]) == 9 * math.pi


@pytest.mark.parametrize(
    ("angle", "wrapped"),
    [
        (0.3, 0.3),
        (math.pi, math.pi),
        (-math.pi, -math.pi),
        (math.pi + 0.1, 0.1 - math.pi),
        (-math.pi - 0.1, math.pi - 0.1),
        (7.5 * math.pi, -0.5 * math.pi),
        (-7.5 * math.pi, 0.5 * math.pi),
    ],
)
def test_angles_are_wrapped_by_whole_turns(angle: float, wrapped: float) -> None:
    found = float(acrobot._wrap(tf.constant(angle, tf.float64)))
    assert found == pytest.approx(wrapped, abs=1e-12)
    if abs(angle) <= math.pi:
        assert found == angle


def test_angles_stay_within_one_turn_while_the_links_spin() -> None:
    state = np.array([3.0, -3.0, 12.0, -25.0])
    for _ in range(30):
        state, _, _ = _step(list(state), NO_TORQUE)
        assert np.abs(state[:2]).max() <= math.pi


def test_an_observation_has_cosine_and_sine_of_each_angle_and_then_the_velocities() -> None:
    state = tf.constant([[math.pi / 2, math.pi, 1.5, -2.5]], tf.float64)
    observation = ACROBOT.observe(state)
    assert observation.dtype == tf.float32
    np.testing.assert_allclose(observation[0], [0, 1, -1, 0, 1.5, -2.5], atol=1e-6)


def test_initial_states_lie_within_a_tenth_and_are_float32_numbers() -> None:
    uniforms = np.random.default_rng(0).random((1_000, 4))
    uniforms[0], uniforms[1] = 0.0, 0.5
    states = ACROBOT.reset(tf.constant(uniforms)).numpy()
    assert states.dtype == np.float64
    np.testing.assert_array_equal(states, states.astype(np.float32))
    np.testing.assert_allclose(states, 0.2 * uniforms - 0.1, atol=1e-8)
    np.testing.assert_allclose(states[:2], [[-0.1] * 4, [0.0] * 4], atol=1e-8)
