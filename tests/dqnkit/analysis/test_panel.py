from __future__ import annotations

import numpy as np
import pytest

from dqnkit.analysis.panel import _BAR, _CHOSEN, Panel, even, fitted, scaled, side_by_side
from dqnkit.analysis.playback import RenderedStep

FRAME = np.full((400, 600, 3), (250, 10, 10), np.uint8)


def _step(
    q_values: list[float] | None = None,
    action: int | None = 0,
    frame: np.ndarray = FRAME,
    step: int = 7,
    ending: str = "",
) -> RenderedStep:
    values = None if q_values is None else np.array(q_values, np.float32)
    return RenderedStep(frame, 1, step, 12.0, values, action, ending)


def _panel(num_actions: int) -> Panel:
    return Panel("trained", [f"action {i}" for i in range(num_actions)], episodes=3)


def _width(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Return the number of pixels of the longest row in a colour."""
    return int((picture == colour).all(axis=2).sum(axis=1).max())


def test_the_frame_is_unchanged_at_the_left_of_the_panel() -> None:
    picture = _panel(2).draw(_step([1.0, 2.0]))
    np.testing.assert_array_equal(picture[:, :600], FRAME)
    assert picture.shape[1] > 800
    assert picture.dtype == np.uint8


def test_bars_are_proportional_to_q_values_and_the_chosen_one_is_highlighted() -> None:
    panel = _panel(3)
    panel.draw(_step([0.0, 5.0, 10.0], action=2))  # sets the scale: 0 to 10
    picture = panel.draw(_step([5.0, 2.0, 9.0], action=2))[:, 600:]
    chosen, highest_other = _width(picture, _CHOSEN), _width(picture, _BAR)
    # Text covers a part of the bars.
    assert chosen > highest_other > 50
    assert _width(panel.draw(_step([9.0, 0.0, 0.0], action=1))[:, 600:], _CHOSEN) < 10


def test_each_value_of_a_step_changes_the_picture() -> None:
    panel = _panel(2)
    before = panel.draw(_step([1.0, 2.0]))
    assert np.array_equal(before, panel.draw(_step([1.0, 2.0])))
    for other in (
        _step([1.0, 2.0], step=8),
        _step([1.0, 2.0], action=1),
        _step([1.0, 1.5]),
        _step([1.0, 2.0], ending="terminated"),
    ):
        assert not np.array_equal(before, panel.draw(other))


def test_a_step_without_q_values_shows_the_chosen_action() -> None:
    picture = _panel(4).draw(_step(None, action=3))[:, 600:]
    assert _width(picture, _CHOSEN) > 100
    assert _width(picture, _BAR) == 0


@pytest.mark.parametrize("num_actions", [1, 18, 500])
def test_any_number_of_actions_fits(num_actions: int) -> None:
    values = np.linspace(0.0, 1.0, num_actions).tolist()
    panel = _panel(num_actions)
    picture = panel.draw(_step(values, action=num_actions - 1))
    assert picture.shape[0] == 400
    assert _width(picture[:, 600:], _CHOSEN) > 0  # the best action is always shown


def test_an_action_chosen_at_random_is_shown_among_many() -> None:
    panel = _panel(500)
    for action in (0, 250, 499):
        picture = panel.draw(_step(None, action=action))
        assert _width(picture[:, 600:], _CHOSEN) > 100


def test_a_picture_is_cropped_or_padded_to_a_size() -> None:
    picture = np.full((4, 6, 3), 9, np.uint8)
    larger = fitted(picture, 6, 8)
    assert larger.shape == (6, 8, 3)
    np.testing.assert_array_equal(larger[:4, :6], picture)
    assert larger[4:].max() == larger[:, 6:].max() == 0
    np.testing.assert_array_equal(fitted(picture, 2, 3), picture[:2, :3])


def test_odd_sides_repeat_the_last_row_and_column() -> None:
    frame = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    picture = even(frame)
    assert picture.shape == (4, 6, 3)
    np.testing.assert_array_equal(picture[:3, :5], frame)
    np.testing.assert_array_equal(picture[3], picture[2])
    np.testing.assert_array_equal(picture[:, 5], picture[:, 4])
    np.testing.assert_array_equal(even(picture), picture)


def test_pictures_side_by_side_have_the_height_of_the_highest() -> None:
    low, high = np.full((4, 6, 3), 9, np.uint8), np.full((8, 2, 3), 7, np.uint8)
    picture = side_by_side([low, high])
    assert picture.shape == (8, 6 + 8 + 2, 3)
    np.testing.assert_array_equal(picture[:4, :6], low)
    np.testing.assert_array_equal(picture[:, 14:], high)
    assert picture[4:, :14].max() == picture[:, 6:14].max() == 0
    np.testing.assert_array_equal(side_by_side([low]), low)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((400, 600), (400, 600)),
        ((10, 10), (360, 360)),
        ((210, 160), (420, 320)),
        ((401, 601), (402, 602)),
        ((2160, 3840), (720, 1280)),
        ((500, 3), (500, 4)),
        ((4000, 1), (720, 2)),
        ((1, 4000), (2, 1280)),
        ((1, 1), (360, 360)),
        ((20, 600), (40, 1200)),
    ],
)
def test_frames_are_scaled_to_even_sides_within_limits(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    picture = scaled(frame)
    assert picture.shape == (*expected, 3)
    if shape == (10, 10):  # enlarged by a whole factor
        np.testing.assert_array_equal(picture[::36, ::36], frame)
