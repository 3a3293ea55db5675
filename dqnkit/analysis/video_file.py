"""Video files, written frame by frame by ffmpeg in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import imageio_ffmpeg
import numpy as np

from dqnkit.errors import ConfigError, RenderingError

VideoFormat = Literal["mp4", "gif"]

_GIF_FPS = 25.0
_GIF_WIDTH = 960
"""A gif holds each frame nearly whole: with more of either it is too large to be shown anywhere."""


class VideoWriter:
    """Streams frames into an mp4 or gif file; a context manager.

    The file has a temporary name until it is whole, and is gone if it does not become so. Memory
    stays as it is, however long the video.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Opens nothing yet: the first frame says how large the video is.

        Args:
          path: Ends in `.mp4` (H.264, which browsers play) or `.gif`.
          fps: Frames a second.

        Raises:
          ConfigError: The folder cannot be written.
        """
        self.path = path
        self.frames = 0
        self._fps = fps
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
        self._size = (0, 0)
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._made = [each for each in path.parents if not each.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            self._partial.touch()
        except OSError as error:
            self._said.close()
            self._unmake_folders()
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}; choose another file with `output`"
            ) from error

    def __enter__(self) -> Self:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame, uint8 [height, width, 3], all of one size with even sides.

        Raises:
          RenderingError: ffmpeg has stopped, for want of space for example.
        """
        height, width, _ = frame.shape
        if self._ffmpeg is None:
            self._size = (width, height)
            self._ffmpeg = self._start()
        if (width, height) != self._size:
            raise RenderingError(
                f"{self.path}: a frame of {width} by {height} came after frames of "
                f"{self._size[0]} by {self._size[1]}; a video has one size"
            )
        pipe = self._ffmpeg.stdin
        try:
            if pipe is not None:
                pipe.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failed() from error
        self.frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self._stop()
            else:
                self._finish()
        finally:
            self._partial.unlink(missing_ok=True)
            self._said.close()
            self._unmake_folders()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._command(imageio_ffmpeg.get_ffmpeg_exe()),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                # A Ctrl-C in the terminal is for us; we end it.
                process_group=0,
            )
        except (OSError, RuntimeError) as error:
            raise RenderingError(
                f"ffmpeg cannot be started: {error}; reinstall imageio-ffmpeg, or name one by the "
                "environment variable IMAGEIO_FFMPEG_EXE"
            ) from error

    def _command(self, ffmpeg: str) -> list[str]:
        width, height = self._size
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        if self.path.suffix.lower() == ".gif":
            # A palette for each frame, so that none has to be kept until the last has come.
            smaller = f"fps={min(self._fps, _GIF_FPS)},scale='min({_GIF_WIDTH},iw)':-2"
            filters = f"{smaller},split[a][b];[a]palettegen=stats_mode=single"
            encoding = ["-vf", f"{filters}[p];[b][p]paletteuse=new=1:dither=none", "-loop", "0"]
        else:
            encoding = [
                "-c:v",
                "libx264",
                "-pix_fmt",
                "yuv420p",
                "-crf",
                "20",
                "-preset",
                "veryfast",
            ]
            encoding += ["-movflags", "+faststart"]
        return [
            *(ffmpeg, "-y", "-nostdin", "-loglevel", "error", *source),
            *("-r", f"{self._fps}", "-i", "pipe:0", "-an", *encoding, f"file:{self._partial}"),
        ]

    def _finish(self) -> None:
        if self._ffmpeg is None or self._ffmpeg.stdin is None:
            raise RenderingError(f"{self.path}: there was no frame to write")
        try:
            self._ffmpeg.stdin.close()
        except OSError as error:
            raise self._failed() from error
        if self._ffmpeg.wait() != 0:
            raise self._failed()
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.replace(self.path)

    def _failed(self) -> RenderingError:
        self._stop()
        self._said.seek(0)
        said = " ".join(self._said.read().decode(errors="replace").split())
        return RenderingError(
            f"{self.path}: ffmpeg could not write it: {said[-300:] or 'it said nothing'}"
        )

    def _unmake_folders(self) -> None:
        """Removes the folders that were made for nothing; what holds the video stays."""
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _stop(self) -> None:
        if self._ffmpeg is not None:
            self._ffmpeg.kill()
            self._ffmpeg.wait()
