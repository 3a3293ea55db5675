from __future__ import annotations

from typing import Any, cast

import numpy as np

from dqnkit.analysis.panel import Panel, scaled
from dqnkit.analysis.recording import RecordedPlayer, Recorder
from dqnkit.analysis.video_writer import VideoWriter
from tests.dqnkit.analysis.played import Alternating, Countdown, rendered

FPS = 5.0
HELD = 4
"""Repetitions of the last frame: 0.8 s."""


class Frames:
    """A writer that keeps the frames."""

    fps = FPS

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []

    def write(self, frame: np.ndarray) -> None:
        self.frames.append(frame)


def _agent(name: str, environment: Countdown) -> RecordedPlayer:
    panel = Panel(name, ["left", "right"], episodes=2)
    return RecordedPlayer(name, rendered(environment), Alternating(), panel)


def _record(*environments: Countdown, max_steps: int = 100, overlay: bool = False) -> Any:
    frames = Frames()
    agents = [_agent(f"agent {i}", environment) for i, environment in enumerate(environments)]
    recorder = Recorder(cast("VideoWriter", frames), agents, overlay=overlay)
    recorder.record([3, 4], max_steps)
    return recorder.returns, frames.frames


def test_each_state_is_a_frame_and_the_last_one_is_held() -> None:
    environment = Countdown(2)
    returns, frames = _record(environment)
    assert environment.seeds == [3, 4]
    assert returns == {"agent 0": [1.0, 1.0]}
    shown = [int(frame[0, 0, 0]) for frame in frames]
    assert shown == [0, 1, 2, *[2] * HELD] * 2
    np.testing.assert_array_equal(frames[1], scaled(np.full((4, 6, 3), 1, np.uint8)))


def test_an_agent_that_has_ended_repeats_its_last_state() -> None:
    returns, frames = _record(Countdown(1), Countdown(3))
    assert returns == {"agent 0": [0.5, 0.5], "agent 1": [1.5, 1.5]}
    left = [int(frame[0, 0, 0]) for frame in frames]
    right = [int(frame[0, -1, 0]) for frame in frames]
    assert left == [0, 1, 1, 1, *[1] * HELD] * 2
    assert right == [0, 1, 2, 3, *[3] * HELD] * 2


def test_episodes_are_cut_off() -> None:
    returns, frames = _record(Countdown(1_000), max_steps=3)
    assert returns == {"agent 0": [1.5, 1.5]}
    assert len(frames) == 2 * (4 + HELD)


def test_panels_are_drawn_at_the_right_of_each_frame() -> None:
    _, plain = _record(Countdown(2), Countdown(2))
    _, drawn = _record(Countdown(2), Countdown(2), overlay=True)
    height, width, _ = scaled(np.zeros((4, 6, 3), np.uint8)).shape
    assert plain[0].shape == (height, 2 * width + 8, 3)
    assert drawn[0].shape == (height, 2 * (width + 260) + 8, 3)
    np.testing.assert_array_equal(drawn[1][:, :width], plain[1][:, :width])


def test_all_frames_have_the_size_of_the_first() -> None:
    class Growing(Countdown):
        def frame(self) -> np.ndarray:
            self._shape = (4 + 4 * self._state, 6 + 3 * self._state)
            return super().frame()

    _, frames = _record(Growing(3))
    assert len({frame.shape for frame in frames}) == 1
    assert frames[0].shape == scaled(np.zeros((4, 6, 3), np.uint8)).shape


def test_frames_of_one_colour_are_noticed() -> None:
    class Blank(Countdown):
        def frame(self) -> np.ndarray:
            return np.full((4, 6, 3), (7, 0, 9), np.uint8)

    for environment, color in ((Blank(2), (7, 0, 9)), (Countdown(2), None)):
        recorder = Recorder(
            cast("VideoWriter", Frames()), [_agent("a", environment)], overlay=False
        )
        recorder.record([3], 100)
        assert recorder.color == color
