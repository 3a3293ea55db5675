from __future__ import annotations

import math

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.envs.mountain_car import MountainCar

MOUNTAIN_CAR = MountainCar()
LEFT, COAST, RIGHT = 0, 1, 2
BOTTOM = -math.pi / 6
"""Position at which the slope is 0."""


def _step(position: float, velocity: float, action: int) -> tuple[float, float, float, bool]:
    following, reward, terminated = MOUNTAIN_CAR.step(
        tf.constant([[position, velocity]], tf.float64),
        tf.constant([action]),
        tf.zeros([1, 0], tf.float64),
    )
    assert (following.dtype, reward.dtype) == (tf.float64, tf.float32)
    position, velocity = map(float, following[0])
    return position, velocity, float(reward[0]), bool(terminated[0])


def _steps_to_the_goal(action_for: dict[bool, int]) -> int | None:
    """Steps of an episode whose action depends on whether the car moves to the right."""
    position, velocity = BOTTOM, 0.0
    for step in range(200):
        position, velocity, reward, terminated = _step(
            position, velocity, action_for[velocity >= 0]
        )
        assert reward == -1.0
        if terminated:
            return step + 1
    return None


@pytest.mark.parametrize(("action", "push"), [(LEFT, -0.001), (COAST, 0.0), (RIGHT, 0.001)])
def test_an_action_changes_the_velocity_by_the_force_of_the_engine(
    action: int, push: float
) -> None:
    position, velocity, reward, terminated = _step(BOTTOM, 0.0, action)
    assert velocity == pytest.approx(push, abs=1e-15)
    assert position == pytest.approx(BOTTOM + push, abs=1e-15)
    assert (reward, terminated) == (-1.0, False)


def test_the_slope_pulls_towards_the_bottom() -> None:
    assert _step(0.0, 0.0, COAST)[1] == pytest.approx(-0.0025)
    assert _step(-1.0, 0.0, COAST)[1] == pytest.approx(-0.0025 * math.cos(3.0))
    assert _step(-1.0, 0.0, COAST)[1] > 0


def test_the_engine_alone_does_not_climb_the_hill_and_a_swing_does() -> None:
    assert _steps_to_the_goal({True: RIGHT, False: RIGHT}) is None
    swinging = _steps_to_the_goal({True: RIGHT, False: LEFT})
    assert swinging is not None
    assert 90 < swinging < 150


@pytest.mark.parametrize(("velocity", "limited"), [(0.5, 0.07), (-0.5, -0.07)])
def test_the_speed_is_limited(velocity: float, limited: float) -> None:
    position, found, _, _ = _step(-0.3, velocity, COAST)
    assert found == limited
    assert position == pytest.approx(-0.3 + limited)


def test_the_wall_on_the_left_stops_the_car() -> None:
    assert _step(-1.19, -0.05, LEFT) == (-1.2, 0.0, -1.0, False)
    _, velocity, _, _ = _step(-1.2, 0.0, RIGHT)
    assert velocity > 0


def test_the_goal_is_reached_only_in_forward_motion() -> None:
    assert _step(0.49, 0.05, RIGHT)[2:] == (-1.0, True)
    assert _step(0.58, -0.01, RIGHT)[2:] == (-1.0, False)  # still beyond it, and rolling back
    assert _step(0.45, 0.04, RIGHT)[2:] == (-1.0, False)


def test_positions_end_at_the_right_edge() -> None:
    assert _step(0.59, 0.07, RIGHT)[0] == 0.6


def test_initial_positions_lie_around_the_bottom_and_the_car_is_at_rest() -> None:
    uniforms = tf.constant([[0.0], [0.5], [0.999]], tf.float64)
    states = MOUNTAIN_CAR.reset(uniforms).numpy()
    np.testing.assert_allclose(states, [[-0.6, 0.0], [-0.5, 0.0], [-0.4002, 0.0]], rtol=1e-12)


def test_an_observation_is_the_state_in_single_precision() -> None:
    state = tf.constant([[-0.5, 0.01], [0.123456789, -0.07]], tf.float64)
    observation = MOUNTAIN_CAR.observe(state)
    assert observation.dtype == tf.float32
    np.testing.assert_array_equal(observation, np.float32(state))
