"""Drawing of a video's frames: the environment's frame, and a panel with what the agent does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:  # imports TensorFlow
    from dqnkit.analysis.playback import RenderedStep

_MIN_HEIGHT, _MAX_HEIGHT, _MAX_WIDTH = 360, 720, 1280
"""Limits, in pixels, between which frames are enlarged or reduced."""
_PANEL_WIDTH = 260
_MARGIN = 14
_GAP = 8
"""Pixels between two pictures side by side."""
_LINE_HEIGHT = 22
_MAX_ROW, _MIN_ROW = 26, 13
"""Limits, in pixels, of the height of an action's row."""
_ROW_WIDTH = _PANEL_WIDTH - 2 * _MARGIN

_BACKGROUND, _TEXT, _FAINT = (22, 27, 34), (230, 237, 243), (139, 148, 158)
_ENDING = (210, 153, 34)
_BAR, _CHOSEN, _TRACK = (56, 97, 155), (35, 134, 54), (38, 45, 55)


class Panel:
    """Draws an agent's frame with a panel at its right: episode, step, return and actions.

    Each action has a row with a bar for its Q-value. The bars share one scale, from the lowest to
    the highest Q-value drawn so far.
    """

    def __init__(self, title: str, action_names: Sequence[str], episodes: int) -> None:
        """Make a panel.

        Args:
          title: Name of the agent.
          action_names: Name of each action.
          episodes: Number of episodes in the video.
        """
        self._title = title
        self._action_names = action_names
        self._episodes = episodes
        self._low, self._high = math.inf, -math.inf

    def draw(self, step: RenderedStep) -> np.ndarray:
        """Return the frame with its panel, uint8 [height, width, 3] with even sides."""
        frame = Image.fromarray(scaled(step.frame))
        image = Image.new("RGB", (frame.width + _PANEL_WIDTH, frame.height), _BACKGROUND)
        image.paste(frame, (0, 0))
        draw = ImageDraw.Draw(image)
        left = frame.width + _MARGIN
        top = self._draw_progress(draw, step, left)
        self._draw_actions(draw, step, (left, top), bottom=frame.height - _MARGIN)
        return np.asarray(image)

    def _draw_progress(self, draw: ImageDraw.ImageDraw, step: RenderedStep, left: int) -> int:
        """Draw title, episode, step and return; return the position below them."""
        draw.text((left, _MARGIN), self._title, _TEXT, _font(20))
        top = _MARGIN + 32
        for label, value in (
            ("episode", f"{step.episode} of {self._episodes}"),
            ("step", f"{step.step:,}"),
            ("return", f"{step.episode_return:,.2f}".removesuffix(".00")),
        ):
            draw.text((left, top), label, _FAINT, _font(15))
            draw.text((left + 72, top), value, _TEXT, _font(15))
            top += _LINE_HEIGHT
        draw.text((left, top), step.ending, _ENDING, _font(15))
        return top + 30

    def _draw_actions(
        self,
        draw: ImageDraw.ImageDraw,
        step: RenderedStep,
        corner: tuple[int, int],
        bottom: int,
    ) -> None:
        left, top = corner
        title = "chosen at random" if step.q_values is None else "Q-values"
        draw.text((left, top), title, _FAINT, _font(15))
        top += _LINE_HEIGHT
        if step.q_values is not None:
            self._low = min(self._low, float(step.q_values.min()))
            self._high = max(self._high, float(step.q_values.max()))
        actions, height = self._rows(step, bottom - top)
        for row, action in enumerate(actions):
            self._draw_row(draw, step, action, (left, top + row * height), height)

    def _rows(self, step: RenderedStep, room: int) -> tuple[list[int], int]:
        """Return the actions to draw, the best ones if not all fit, and the height of a row."""
        count = len(self._action_names)
        height = max(_MIN_ROW, min(_MAX_ROW, room // count))
        fitting = max(1, room // height)
        if count <= fitting:
            return list(range(count)), height
        if step.q_values is None:
            first = min(max(0, (step.action or 0) - fitting // 2), count - fitting)
            return list(range(first, first + fitting)), height
        return sorted(np.argsort(-step.q_values)[:fitting].tolist()), height

    def _draw_row(
        self,
        draw: ImageDraw.ImageDraw,
        step: RenderedStep,
        action: int,
        corner: tuple[int, int],
        height: int,
    ) -> None:
        left, top = corner
        right, bottom = left + _ROW_WIDTH, top + height - 3
        is_chosen = action == step.action
        value = ""
        if step.q_values is None:
            draw.rectangle((left, top, right, bottom), _CHOSEN if is_chosen else _TRACK)
        else:
            q_value = step.q_values[action]
            share = (q_value - self._low) / (self._high - self._low or 1.0)
            end = left + max(2, share * _ROW_WIDTH)
            draw.rectangle((left, top, right, bottom), _TRACK)
            draw.rectangle((left, top, end, bottom), _CHOSEN if is_chosen else _BAR)
            value = f"{q_value:#.4g}"
        middle, font = top + (height - 3) / 2, _font(min(14, height - 1))
        draw.text((left + 6, middle), self._action_names[action], _TEXT, font, anchor="lm")
        draw.text((right - 6, middle), value, _TEXT, font, anchor="rm")


def scaled(frame: np.ndarray) -> np.ndarray:
    """Return a frame in a size suitable for viewing, with even sides, which H.264 requires.

    Small frames are enlarged by a whole factor, so that their pixels stay square.
    """
    height, width, _ = frame.shape
    smaller = min(_MAX_HEIGHT / height, _MAX_WIDTH / width)
    larger = min(math.ceil(_MIN_HEIGHT / height), _MAX_WIDTH // width)
    if smaller < 1.0:
        size = (max(2, round(width * smaller)), max(2, round(height * smaller)))
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
    elif larger > 1:
        frame = frame.repeat(larger, axis=0).repeat(larger, axis=1)
    return even(frame)


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture cropped to a size, or padded with black at the right and the bottom."""
    picture = picture[:height, :width]
    missing = (height - picture.shape[0], width - picture.shape[1])
    return np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)))


def even(frame: np.ndarray) -> np.ndarray:
    """Return a frame with even sides, whose last row or column is repeated if necessary."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures in a row, with gaps between them, in the height of the highest."""
    height = max(picture.shape[0] for picture in pictures)
    gap = np.zeros((height, _GAP, 3), np.uint8)
    level = [fitted(picture, height, picture.shape[1]) for picture in pictures]
    return np.concatenate([part for picture in level for part in (gap, picture)][1:], axis=1)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
