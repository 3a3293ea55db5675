from __future__ import annotations

import math

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.envs.cartpole import CartPole

CARTPOLE = CartPole()
LEFT, RIGHT = 0, 1
TWELVE_DEGREES = 12 * 2 * math.pi / 360


def _step(state: list[float], action: int) -> tuple[np.ndarray, float, bool]:
    following, reward, terminated = CARTPOLE.step(
        tf.constant([state], tf.float64), tf.constant([action]), tf.zeros([1, 0], tf.float64)
    )
    assert (following.dtype, reward.dtype) == (tf.float64, tf.float32)
    return following.numpy()[0], float(reward[0]), bool(terminated[0])


def test_a_push_from_rest_accelerates_cart_and_pole() -> None:
    # 10 N on 1.1 kg for 0.02 s: in exact fractions 8/41 m/s and -12/41 rad/s. Euler's method moves
    # positions by the velocities before the push.
    following, reward, terminated = _step([0.0, 0.0, 0.0, 0.0], RIGHT)
    np.testing.assert_allclose(following, [0.0, 8 / 41, 0.0, -12 / 41], rtol=1e-12)
    assert (reward, terminated) == (1.0, False)


def test_positions_move_by_the_velocities_before_the_step() -> None:
    following, _, _ = _step([0.5, 2.0, 0.1, -1.0], LEFT)
    np.testing.assert_allclose(following[[0, 2]], [0.5 + 0.02 * 2.0, 0.1 - 0.02], rtol=1e-12)


def test_left_and_right_are_mirror_images() -> None:
    state = [0.4, -1.1, 0.1, 0.7]
    following, _, _ = _step(state, RIGHT)
    mirrored, _, _ = _step([-x for x in state], LEFT)
    np.testing.assert_array_equal(mirrored, -following)


def test_a_tilted_pole_falls_faster_the_more_it_tilts() -> None:
    accelerations = [
        sum(_step([0.0, 0.0, angle, 0.0], action)[0][3] for action in (LEFT, RIGHT))
        for angle in (0.0, 0.05, 0.1, 0.2)
    ]
    assert accelerations[0] == 0.0
    assert accelerations == sorted(accelerations)
    assert accelerations[-1] > 0.05


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("index", "limit"), [(0, 2.4), (2, TWELVE_DEGREES)])
def test_the_episode_ends_beyond_the_limits_and_not_at_them(
    index: int, limit: float, sign: int
) -> None:
    state = [0.0, 0.0, 0.0, 0.0]
    state[index] = sign * limit
    assert _step(state, RIGHT)[1:] == (1.0, False)
    state[index] = sign * math.nextafter(limit, 9.0)
    assert _step(state, RIGHT)[1:] == (1.0, True)


def test_each_environment_of_a_batch_takes_its_own_action() -> None:
    state = tf.zeros([3, 4], tf.float64)
    following, _, _ = CARTPOLE.step(
        state, tf.constant([LEFT, RIGHT, LEFT]), tf.zeros([3, 0], tf.float64)
    )
    assert np.sign(following[:, 1]).tolist() == [-1, 1, -1]


def test_initial_states_lie_within_a_twentieth() -> None:
    uniforms = tf.constant([[0.0, 0.25, 0.5, math.nextafter(1.0, 0.0)]], tf.float64)
    states = CARTPOLE.reset(uniforms)
    np.testing.assert_allclose(states, [[-0.05, -0.025, 0.0, 0.05]], rtol=1e-12)
    assert float(states[0, 3]) < 0.05


def test_an_observation_is_the_state_in_single_precision() -> None:
    state = tf.constant([[0.1, -2.0, 1e-9, 3.0]], tf.float64)
    observation = CARTPOLE.observe(state)
    assert observation.dtype == tf.float32
    np.testing.assert_array_equal(observation, np.float32(state))
