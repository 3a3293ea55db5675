"""Recording of episodes into a video, with several players side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from dqnkit.analysis.panel import Panel, fitted, scaled, side_by_side
from dqnkit.analysis.playback import Player, RenderedStep, play
from dqnkit.analysis.video_writer import VideoWriter
from dqnkit.envs.rendering import RenderedEnvironment
from dqnkit.events import EpisodesPlayed, Listener, ignore

_HOLD_SECONDS = 0.8
"""Time for which the last frame of an episode stays, to show how it ended."""


@dataclass(frozen=True)
class RecordedPlayer:
    """A player with its own environment, and the panel that draws it."""

    name: str
    environment: RenderedEnvironment
    player: Player
    panel: Panel


class Recorder:
    """Plays episodes with all players at once, and writes them into a video."""

    def __init__(
        self, writer: VideoWriter, players: Sequence[RecordedPlayer], *, overlay: bool
    ) -> None:
        """Make a recorder.

        Args:
          writer: Writer of the frames.
          players: Players to show, from left to right.
          overlay: True to draw the players' panels, False for their frames alone.
        """
        self.returns: dict[str, list[float]] = {each.name: [] for each in players}
        """Undiscounted return of each episode, by the name of the player."""
        self._writer = writer
        self._players = players
        self._overlay = overlay
        self._size: tuple[int, int] | None = None
        self.color: tuple[int, ...] | None = None
        """The one colour of all pixels of all frames so far; None if there are several."""
        self._has_begun = False

    def record(self, seeds: Sequence[int], max_steps: int, listener: Listener = ignore) -> None:
        """Record one episode per seed.

        Args:
          seeds: Seed of each episode's initial state.
          max_steps: Number of steps after which an episode is cut off.
          listener: Receives `EpisodesPlayed` after each episode.

        Raises:
          EnvironmentFailedError: If an environment fails.
          RenderingError: If the video cannot be encoded.
        """
        for episode, seed in enumerate(seeds, start=1):
            steps: list[RenderedStep] = []
            for steps in self._play(episode, seed, max_steps):
                self._watch_color(steps[0].frame)
                picture = self._draw(steps)
                self._writer.write(picture)
            for _ in range(round(_HOLD_SECONDS * self._writer.fps)):
                self._writer.write(picture)
            for each, last in zip(self._players, steps, strict=True):
                self.returns[each.name].append(last.episode_return)
            listener(EpisodesPlayed(tuple(self.returns), episode, len(seeds)))

    def _play(self, episode: int, seed: int, max_steps: int) -> Iterator[list[RenderedStep]]:
        """Yield the players' steps at each timestep; a player that has ended repeats its last."""
        playing = [
            play(each.environment, each.player, episode, seed, max_steps) for each in self._players
        ]
        latest: list[RenderedStep] = []
        for steps in zip_longest(*playing):
            latest = [new or old for new, old in zip_longest(steps, latest)]
            yield latest

    def _watch_color(self, frame: np.ndarray) -> None:
        if not self._has_begun:
            self._has_begun, self.color = True, tuple(frame[0, 0].tolist())
        if self.color is not None and (frame != np.array(self.color)).any():
            self.color = None

    def _draw(self, steps: Sequence[RenderedStep]) -> np.ndarray:
        picture = side_by_side(
            [
                each.panel.draw(step) if self._overlay else scaled(step.frame)
                for each, step in zip(self._players, steps, strict=True)
            ]
        )
        # A video has one size, but an environment may change that of its frames.
        self._size = self._size or (picture.shape[0], picture.shape[1])
        return fitted(picture, *self._size)
