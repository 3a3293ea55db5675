"""What stands beside a frame: episode, step, return and Q-values."""

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
"""Frames are enlarged and reduced to sizes between these."""
_PANEL_WIDTH = 260
_MARGIN = 14
_MAX_ROW, _MIN_ROW = 26, 13
"""Pixels that an action takes."""

_BACKGROUND, _TEXT, _FAINT = (22, 27, 34), (230, 237, 243), (139, 148, 158)
_ENDING = (210, 153, 34)
_BAR, _CHOSEN, _TRACK = (56, 97, 155), (35, 134, 54), (38, 45, 55)


class Panel:
    """Draws one agent's frame, with a panel of what it knows at the right of it.

    Bars of Q-values share one scale, from the lowest to the highest seen so far.
    """

    def __init__(self, title: str, action_names: Sequence[str], episodes: int) -> None:
        self._title = title
        self._action_names = action_names
        self._episodes = episodes
        self._low, self._high = math.inf, -math.inf

    def draw(self, moment: RenderedStep) -> np.ndarray:
        """The frame and its panel, uint8 [height, width, 3] with even sides."""
        frame = Image.fromarray(scaled(moment.frame))
        height = frame.height
        image = Image.new("RGB", (frame.width + _PANEL_WIDTH, height), _BACKGROUND)
        image.paste(frame, (0, 0))
        draw = ImageDraw.Draw(image)
        left, top = frame.width + _MARGIN, _MARGIN
        draw.text((left, top), self._title, _TEXT, _font(20))
        top += 32
        lines = (
            ("episode", f"{moment.episode} of {self._episodes}"),
            ("step", f"{moment.step:,}"),
            ("return", f"{moment.episode_return:,.2f}".removesuffix(".00")),
        )
        for label, value in lines:
            draw.text((left, top), label, _FAINT, _font(15))
            draw.text((left + 72, top), value, _TEXT, _font(15))
            top += 22
        if moment.ending:
            draw.text((left, top), moment.ending, _ENDING, _font(15))
        self._draw_actions(draw, moment, left, top + 30, height)
        return np.asarray(image)

    def _draw_actions(
        self, draw: ImageDraw.ImageDraw, moment: RenderedStep, left: int, top: int, height: int
    ) -> None:
        shown, row = self._rows(moment, height - top - _MARGIN - 22)
        font = _font(min(14, row - 1))
        width = _PANEL_WIDTH - 2 * _MARGIN
        title = "chosen at random" if moment.q_values is None else "Q-values"
        draw.text((left, top), title, _FAINT, _font(15))
        top += 22
        if moment.q_values is not None:
            self._low = min(self._low, float(moment.q_values.min()))
            self._high = max(self._high, float(moment.q_values.max()))
        for place, action in enumerate(shown):
            y = top + place * row
            colour = _CHOSEN if action == moment.action else _BAR
            if moment.q_values is None:
                colour = _CHOSEN if action == moment.action else _TRACK
                draw.rectangle((left, y, left + width, y + row - 3), colour)
                value = ""
            else:
                share = (moment.q_values[action] - self._low) / (self._high - self._low or 1.0)
                draw.rectangle((left, y, left + width, y + row - 3), _TRACK)
                draw.rectangle((left, y, left + max(2, share * width), y + row - 3), colour)
                value = f"{moment.q_values[action]:#.4g}"
            middle = y + (row - 3) / 2
            draw.text((left + 6, middle), self._action_names[action], _TEXT, font, anchor="lm")
            draw.text((left + width - 6, middle), value, _TEXT, font, anchor="rm")

    def _rows(self, moment: RenderedStep, room: int) -> tuple[list[int], int]:
        """Actions that are shown, by number, and the height of each: the best if not all fit."""
        count = len(self._action_names)
        row = max(_MIN_ROW, min(_MAX_ROW, room // count))
        fitting = max(1, room // row)
        if count <= fitting:
            return list(range(count)), row
        if moment.q_values is None:
            first = min(max(0, (moment.action or 0) - fitting // 2), count - fitting)
            return list(range(first, first + fitting)), row
        return sorted(np.argsort(-moment.q_values)[:fitting].tolist()), row


def scaled(frame: np.ndarray) -> np.ndarray:
    """A frame in a size that is good to look at, its sides even, as H.264 needs them.

    Small ones grow by a whole factor, so that each pixel stays a square.
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
    """A picture cut to a size, or with black at its right and below."""
    picture = picture[:height, :width]
    missing = (height - picture.shape[0], width - picture.shape[1])
    return np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)))


def even(frame: np.ndarray) -> np.ndarray:
    """A frame with even sides: the last row or column stands twice where they are odd."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
